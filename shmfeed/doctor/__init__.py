"""What may be wrong on this host, and its remedy: one module a group of checks."""
