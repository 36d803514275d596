"""Keeping jobs: the store is the truth, everything else is a buffer."""
