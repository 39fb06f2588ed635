"""The memory wing: rings in a buffer, the segment that holds them, who may write it."""
