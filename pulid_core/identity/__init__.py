"""One person as a value, and as a file."""
