"""Scripts for those who work on Gofer."""
