"""What the ring stands on: words, rows, the catalog, liveness, integrity, wake-ups."""
