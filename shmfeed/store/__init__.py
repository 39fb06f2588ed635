"""The store: every version of each closed bar, in one SQLite file."""
