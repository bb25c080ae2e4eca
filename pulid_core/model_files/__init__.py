"""Which model files there are, where they lie on a disk, and how they get there."""
