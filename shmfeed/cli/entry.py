"""From arguments to a command, and from its end to an exit code.

A command is a module with `add_arguments(parser)` and `run(args) -> int`. Only the one
that was asked for is imported: a command that reads loads no socket library.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, NamedTuple

from shmfeed import __version__
from shmfeed.errors import (
    BadArgumentError,
    FeedNotFoundError,
    ShmfeedError,
    StreamNotFoundError,
)

EXIT_FAILED, EXIT_USAGE = 1, 2
EXIT_INTERRUPTED, EXIT_PIPE = 130, 141  # as a shell reports SIGINT and SIGPIPE

# Mistakes that the caller can put right in the line that was typed.
_USAGE = (BadArgumentError, FeedNotFoundError, StreamNotFoundError)


class Command(NamedTuple):
    """Where a command lives, and its line in the list of commands."""

    module: str
    summary: str


# In the order of the help.
COMMANDS = {
    "run": Command("shmfeed.cli.run", "feed one feed, in the foreground"),
    "simulate": Command("shmfeed.cli.simulate", "a local venue, to feed from"),
    "demo": Command("shmfeed.cli.demo", "venue, feeder and strategies, all at once"),
    "status": Command("shmfeed.cli.status", "how a feed and its streams are"),
    "tail": Command("shmfeed.cli.tail", "the last closed bars of a stream"),
}

_EPILOG = """\
three terminals:
  shmfeed simulate --port 18000
  shmfeed run --endpoint ws://127.0.0.1:18000 --symbols BTCUSDT --resolutions 1s,1m
  shmfeed tail BTCUSDT 1s -f

`shmfeed COMMAND --help` explains a command.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. What a user got wrong is one line on stderr.

    0: done. 1: it failed. 2: the arguments, or no such feed or stream. 130: Ctrl-C.
    argparse ends `--help`, `--version` and wrong options by SystemExit.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _leave_stdout()
        return EXIT_PIPE
    except _USAGE as error:
        return _complain(error, EXIT_USAGE)
    except (ShmfeedError, OSError) as error:
        return _complain(error, EXIT_FAILED)
    return code


def _dispatch(arguments: Sequence[str]) -> int:
    # No option before the command takes a value: the first word is the command.
    name = next((word for word in arguments if not word.startswith("-")), None)
    module = import_module(COMMANDS[name].module) if name in COMMANDS else None
    parser, chosen = _parsers(name, module)
    args, unknown = parser.parse_known_args(arguments)
    if unknown:
        chosen.error(f"unrecognized arguments: {' '.join(unknown)}")
    if module is None:
        parser.print_help(sys.stderr)
        return EXIT_USAGE
    code: int = module.run(args)
    return code


def _parsers(
    name: str | None, module: Any
) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """The whole command line's parser, and that of the command called `name`."""
    parser = chosen = argparse.ArgumentParser(
        prog="shmfeed",
        description="One feeder process a host; strategies read bars from its memory.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"shmfeed {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for known, command in COMMANDS.items():
        one = commands.add_parser(
            known,
            help=command.summary,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if known == name:
            module.add_arguments(one)
            chosen = one
    return parser, chosen


def _complain(error: Exception, code: int) -> int:
    words = str(error)
    if isinstance(error, ShmfeedError) and isinstance(error, OSError):
        words = error.strerror or words  # its sentence names the file already
    with suppress(BrokenPipeError):
        print(f"shmfeed: {words}", file=sys.stderr)
    return code


def _leave_stdout() -> None:
    """Whoever read our output has gone: let the interpreter's last flush succeed."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
