"""The relay: one feed on many hosts, carried by an engine such as Redis."""
