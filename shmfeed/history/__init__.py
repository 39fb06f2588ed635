"""History: closed bars from a venue's REST service, a file, or a command."""
