"""Checks of this host, each with its remedy: one module per group of checks."""
