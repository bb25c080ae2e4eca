"""Looking for the best settings: combinations to try, and the sheet that compares the pictures."""
