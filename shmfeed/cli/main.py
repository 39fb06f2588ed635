"""From arguments to a command, and from its end to an exit code.

A command is a module with `add_arguments(parser)` and `run(args) -> int`. Only the one
that was asked for is imported: a command that reads loads no socket library.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple, NoReturn

from shmfeed._version import __version__
from shmfeed.cli import exit_codes, output, suggestions
from shmfeed.errors import (
    BadArgumentError,
    FeedNotFoundError,
    ShmfeedError,
    StreamNotFoundError,
)
from shmfeed.text import printable, shorten

# Mistakes that the caller can put right in the line that was typed.
_USAGE = (BadArgumentError, FeedNotFoundError, StreamNotFoundError)


class _Parser(argparse.ArgumentParser):
    """Its complaints are short and printable, whatever was typed."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if file is sys.stdout:  # argparse passes over what cannot be written
            output.show(message.removesuffix("\n"))
        else:
            super()._print_message(message, file)

    def error(self, message: str) -> NoReturn:
        super().error(printable(shorten(message)))


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
    "ls": Command("shmfeed.cli.ls", "the feeds of this user on this host"),
    "tail": Command("shmfeed.cli.tail", "the last closed bars of a stream"),
    "doctor": Command("shmfeed.cli.doctor", "what is wrong here, and its remedy"),
    "clean": Command("shmfeed.cli.clean", "remove what no feeder holds"),
}

_EPILOG = """\
three terminals:
  shmfeed simulate --port 18000
  shmfeed run --endpoint ws://127.0.0.1:18000 --symbols BTCUSDT --resolutions 1s,1m
  shmfeed tail BTCUSDT 1s -f

`shmfeed COMMAND --help` explains a command and its exit codes.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. What a user got wrong is one line on stderr.

    `exits` says what the codes mean. argparse ends `--help`, `--version` and wrong
    options by SystemExit.
    """
    output.prepare()
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        try:
            return _dispatch(arguments)
        finally:
            output.finish()
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    except BrokenPipeError:
        return exit_codes.PIPE
    except _USAGE as error:
        return _complain(error, exit_codes.USAGE)
    except (ShmfeedError, OSError) as error:
        return _complain(error, exit_codes.FAILED)


def _dispatch(arguments: Sequence[str]) -> int:
    # No option before the command takes a value: the first word is the command.
    name = next((word for word in arguments if not word.startswith("-")), None)
    module = import_module(COMMANDS[name].module) if name in COMMANDS else None
    parser, chosen = _parsers(name, module)
    if name is not None and module is None:
        parser.error(suggestions.no_command(name, list(COMMANDS)))
    args, unknown = parser.parse_known_args(arguments)
    fault = suggestions.unknown_words(chosen, unknown) or suggestions.repeated(
        chosen, arguments
    )
    if fault:
        chosen.error(fault)
    if module is None:
        parser.print_help(sys.stderr)
        return exit_codes.USAGE
    code: int = module.run(args)
    return code


def _parsers(
    name: str | None, module: Any
) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """The whole command line's parser, and that of the command called `name`."""
    parser = chosen = _Parser(
        prog="shmfeed",
        description="One feeder process a host; strategies read bars from its memory.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"shmfeed {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for known, command in COMMANDS.items():
        one = commands.add_parser(
            known,
            help=command.summary,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if known == name:
            module.add_arguments(one)
            one.epilog = f"{one.epilog}\n{exit_codes.in_words(name)}"
            chosen = one
    return parser, chosen


def _complain(error: Exception, code: int) -> int:
    words = str(error)
    if isinstance(error, ShmfeedError) and isinstance(error, OSError):
        words = error.strerror or words  # its sentence names the file already
    if isinstance(error, FeedNotFoundError):
        words += suggestions.feeds_there(error.filename)
    output.complain(printable(words))
    return code
