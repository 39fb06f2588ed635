"""The feeder: the process that owns a venue's socket and writes one feed."""
