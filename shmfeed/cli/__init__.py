"""The command line, `shmfeed COMMAND`: one module a command."""

from shmfeed.cli.entry import main

__all__ = ["main"]
