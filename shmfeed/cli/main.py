"""The entry point: from arguments to a command, from its outcome to an exit code.

A command is a module with `add_arguments(parser)` and `run(args) -> int`. Only the
command that was asked for is imported, so that commands that only read load no socket
library.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
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

# Errors that the user can correct on the command line.
_USAGE_ERRORS = (BadArgumentError, FeedNotFoundError, StreamNotFoundError)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are short and printable, whatever was typed."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if file is sys.stdout:  # argparse ignores an output that cannot be written
            output.print_output(message.removesuffix("\n"))
        else:
            super()._print_message(message, file)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            near = suggestions.suggest(str(value), map(str, action.choices or ()))
            raise argparse.ArgumentError(action, f"{error.message}{near}") from None

    def error(self, message: str) -> NoReturn:
        super().error(printable(shorten(message)))


class _ListFormatter(argparse.RawDescriptionHelpFormatter):
    """Help that has each command and its summary on one line."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog)
        # argparse forgets that commands are indented further than options.
        self._action_max_length = 4 + max(map(len, COMMANDS))


class Subcommand(NamedTuple):
    """The module of a command, and its line in the list of commands."""

    module: str
    summary: str


# In the order of the help.
COMMANDS = {
    "run": Subcommand("shmfeed.cli.run", "run a feeder in the foreground"),
    "publish": Subcommand(
        "shmfeed.cli.publish", "write a feed to Redis, for other hosts"
    ),
    "simulate": Subcommand("shmfeed.cli.simulate", "run a local venue to feed from"),
    "demo": Subcommand("shmfeed.cli.demo", "run a venue, a feeder and strategies"),
    "status": Subcommand("shmfeed.cli.status", "show a feed and its streams"),
    "wait": Subcommand("shmfeed.cli.wait", "wait until a feed is ready"),
    "ls": Subcommand("shmfeed.cli.ls", "list the feeds of this user on this host"),
    "readers": Subcommand("shmfeed.cli.readers", "list the processes that read a feed"),
    "top": Subcommand("shmfeed.cli.top", "show the busiest streams, kept up to date"),
    "tail": Subcommand("shmfeed.cli.tail", "print the last closed bars of a stream"),
    "plot": Subcommand("shmfeed.cli.plot", "write a chart of a stream to a file"),
    "gaps": Subcommand("shmfeed.cli.gaps", "list missing bars, and have them filled"),
    "export": Subcommand("shmfeed.cli.export", "write a stream's bars to a file"),
    "asof": Subcommand("shmfeed.cli.asof", "print the bars that were seen at a time"),
    "audit": Subcommand("shmfeed.cli.audit", "compare bars with the venue's history"),
    "config": Subcommand("shmfeed.cli.config", "show settings and their sources"),
    "reset": Subcommand(
        "shmfeed.cli.reset", "drop a stream's bars, so that it begins again"
    ),
    "reload": Subcommand("shmfeed.cli.reload", "have a feeder read its settings again"),
    "dashboard": Subcommand("shmfeed.cli.dashboard", "serve a page that shows feeds"),
    "metrics": Subcommand("shmfeed.cli.metrics", "serve figures to Prometheus"),
    "doctor": Subcommand("shmfeed.cli.doctor", "check this host and suggest remedies"),
    "clean": Subcommand("shmfeed.cli.clean", "remove files that no feeder holds"),
    "completion": Subcommand("shmfeed.cli.completion", "complete words in a shell"),
}

_EPILOG = """\
in three terminals:
  shmfeed simulate --port 18000
  shmfeed run --endpoint ws://127.0.0.1:18000 --symbols BTCUSDT --resolutions 1s,1m
  shmfeed tail BTCUSDT 1s -f

`shmfeed COMMAND --help` explains a command and its exit codes.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    An error that the user can correct is one line on standard error.

    Args:
        argv: The arguments, by default those of this process.

    Raises:
        SystemExit: From argparse, for `--help`, `--version` and wrong options.
    """
    return run_command(_dispatch, argv, _print_failure, _USAGE_ERRORS)


def run_command(
    dispatch: Callable[[Sequence[str]], int],
    argv: Sequence[str] | None,
    report: Callable[[Exception], None],
    usage_errors: tuple[type[Exception], ...],
) -> int:
    """Call `dispatch` with the arguments; return its exit code, or that of its error.

    `report` prints an error; `usage_errors` are those that the user can correct on the
    command line.
    """
    output.prepare_streams()
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        try:
            return dispatch(arguments)
        finally:
            output.flush_output()
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    except BrokenPipeError:
        return exit_codes.PIPE
    except usage_errors as error:
        report(error)
        return exit_codes.USAGE
    except (ShmfeedError, OSError) as error:
        report(error)
        return exit_codes.FAILED


def _dispatch(arguments: Sequence[str]) -> int:
    # No option before the command takes a value: the first word is the command.
    name = next((word for word in arguments if not word.startswith("-")), None)
    try:
        module = import_module(COMMANDS[name].module) if name in COMMANDS else None
    except ModuleNotFoundError as error:
        if (error.name or "shmfeed").split(".")[0] in ("shmfeed", "wealthdata"):
            raise  # a defect, not a missing dependency
        output.print_error(
            f"module {error.name} is not installed for {sys.executable}; install"
            " shmfeed with its dependencies: `pip install PATH`, of its clone or wheel"
        )
        return exit_codes.FAILED
    parser, subparser = _build_parsers(name, module)
    if name is not None and module is None:
        parser.error(suggestions.describe_unknown_command(name, list(COMMANDS)))
    args, unknown = parser.parse_known_args(arguments)
    fault = suggestions.describe_unknown_arguments(
        subparser, unknown
    ) or suggestions.describe_repeated_option(subparser, arguments)
    if fault:
        subparser.error(fault)
    if module is None:
        parser.print_help(sys.stderr)
        return exit_codes.USAGE
    code: int = module.run(args)
    return code


def _build_parsers(
    name: str | None, module: Any
) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """Return the parser of the whole command line, and that of the command `name`.

    Without a command both are the same.
    """
    parser = subparser = Parser(
        prog="shmfeed",
        description="Market bars in shared memory: one feeder, any number of readers.",
        epilog=_EPILOG,
        formatter_class=_ListFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"shmfeed {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    for known, command in COMMANDS.items():
        one = subparsers.add_parser(
            known,
            help=command.summary,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if known == name:
            module.add_arguments(one)
            one.epilog = f"{one.epilog}\n{exit_codes.format_exit_codes(name)}"
            subparser = one
    return parser, subparser


def _print_failure(error: Exception) -> None:
    feeds = ""
    if isinstance(error, FeedNotFoundError):
        feeds = suggestions.suggest_feeds(error.filename)
    output.print_error(_sentence(error) + feeds)


def _sentence(error: Exception) -> str:
    if isinstance(error, ShmfeedError) and isinstance(error, OSError):
        # `str` would add the name of a file, which the sentence has already.
        return error.strerror or str(error)
    return str(error)
