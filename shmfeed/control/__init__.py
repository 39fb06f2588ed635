"""The control socket: what managers and commands ask of a running feeder."""
