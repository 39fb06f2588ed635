"""The version of the package. The build reads it from here without importing it."""

__version__ = "0.2.0.dev0"
