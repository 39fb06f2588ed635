"""The operating system's side of a segment: its file, its locks, its owner."""
