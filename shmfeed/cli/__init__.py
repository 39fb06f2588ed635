"""The command line, `shmfeed COMMAND`: one module per command."""
