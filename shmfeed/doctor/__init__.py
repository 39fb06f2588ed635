"""Checks of this host, each with its remedy: one module a group of checks."""
