"""The ring's foundations: words, rows, catalog, liveness, integrity, wake-ups."""
