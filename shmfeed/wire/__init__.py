"""The wire wing: from a venue's socket to what its messages mean for a stream."""
