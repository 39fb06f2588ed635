"""The command line, `shmfeed COMMAND`: one module a command."""
