"""The photo: which face is meant, where it lies, whether it is good enough, whom it resembles."""
