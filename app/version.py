"""Which Gofer this is."""

#: The one place where the version is written; the package's metadata takes it from here.
VERSION = "0.1.0"
