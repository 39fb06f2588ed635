"""The base of the ring: words, rows, catalog, liveness, integrity, wake-ups."""
