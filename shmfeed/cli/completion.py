"""`shmfeed completion`: complete commands, options, feeds and symbols in a shell.

The script that a shell loads asks this command for the words that fit. So it knows each
option of the installed version, and the feeds and symbols that are there now.
"""

import argparse
import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from typing import NamedTuple

from shmfeed.accounts import chosen_owner, user_name
from shmfeed.cli.output import print_output
from shmfeed.errors import ShmfeedError

_DESCRIPTION = """\
Print a script for your shell. Once the shell has loaded it, the tab key completes
commands, options, their values, feeds, symbols and timeframes.
"""

_EPILOG = """\
examples:
  eval "$(shmfeed completion bash)"                 # in ~/.bashrc
  eval "$(shmfeed completion zsh)"                  # in ~/.zshrc, below compinit
  shmfeed completion fish | source                  # in ~/.config/fish/config.fish
"""

_BASH = """\
_shmfeed() {
    local IFS=$'\\n'
    COMPREPLY=($(command shmfeed completion bash \\
        --line "${COMP_LINE:0:COMP_POINT}" 2> /dev/null))
}
complete -o default -F _shmfeed shmfeed
"""
_ZSH = """\
_shmfeed() {
    local -a found
    found=("${(@f)$(command shmfeed completion zsh \\
        --line "${(j: :)words[1,CURRENT]}" 2> /dev/null)}")
    if [[ -n "$found" ]]; then compadd -a found; else _files; fi
}
compdef _shmfeed shmfeed
"""
_FISH = """\
function __shmfeed
    set -l found (command shmfeed completion fish --line (commandline -cp) 2> /dev/null)
    if test (count $found) -gt 0
        string join \\n -- $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c shmfeed -f -a '(__shmfeed)'
"""
_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
# Characters at which bash begins another word; it completes that word alone.
_BASH_BREAKS = "=:"
_FEED_OPTIONS, _SYMBOL_OPTIONS = ("feed",), ("require",)
_Options = dict[str, argparse.Action]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument(
        "shell", choices=_SCRIPTS, metavar="SHELL", help=f"one of: {' '.join(_SCRIPTS)}"
    )
    parser.add_argument("--line", help=argparse.SUPPRESS)  # the line up to the cursor


def run(args: argparse.Namespace) -> int:
    if args.line is None:
        print_output(_SCRIPTS[args.shell].removesuffix("\n"))
        return 0
    words = split_line(args.line)
    found = complete(words)
    if args.shell == "bash":
        word = words[-1]
        head = max((word.rfind(mark) + 1 for mark in _BASH_BREAKS), default=0)
        found = [candidate[head:] for candidate in found]
    if found:
        print_output("\n".join(found))
    return 0


def split_line(line: str) -> list[str]:
    """Return the words of a command line; the last one is being typed, perhaps ""."""
    try:
        words = shlex.split(line)
    except ValueError:  # within quotes
        words = line.split()
    is_new = not words or line[-1:].isspace()
    return [*words, ""] if is_new else words


def complete(words: Sequence[str]) -> list[str]:
    """Return the words that the last one may become, in order.

    Args:
        words: Those of the line, the program first.
    """
    from shmfeed.cli.main import COMMANDS  # noqa: PLC0415 # it loads this module

    *typed, word = words[1:] or [""]
    name = next((one for one in typed if not one.startswith("-")), None)
    if name is None:
        return _fitting(word, [*COMMANDS, "--help", "--version"])
    if name not in COMMANDS:
        return []
    parser = argparse.ArgumentParser(prog=f"shmfeed {name}")
    with suppress(ImportError):  # of a package that is not installed
        import_module(COMMANDS[name].module).add_arguments(parser)
    line = _read_line(parser, typed[typed.index(name) + 1 :])
    return _fitting(word, _candidates(parser, line, word))


class _Line(NamedTuple):
    """The words between command and cursor.

    `awaiting` is the option whose value comes next. `values` are those of options and
    positional arguments by name.
    """

    awaiting: argparse.Action | None
    positionals: list[str]
    values: dict[str, list[str]]


def _read_line(parser: argparse.ArgumentParser, words: Sequence[str]) -> _Line:
    options: _Options = parser._option_string_actions
    awaiting: argparse.Action | None = None
    positionals: list[str] = []
    values: dict[str, list[str]] = {}
    for word in words:
        name, mark, value = word.partition("=")
        if awaiting is not None:
            values.setdefault(awaiting.dest, []).append(word)
            awaiting = None
        elif not word.startswith("-"):
            positionals.append(word)
        elif name in options and mark:
            values.setdefault(options[name].dest, []).append(value)
        elif name in options and _takes_value(options[name]):
            awaiting = options[name]
    return _Line(awaiting, positionals, values)


def _takes_value(action: argparse.Action) -> bool:
    return action.nargs not in {0, "?"}


def _candidates(
    parser: argparse.ArgumentParser, line: _Line, word: str
) -> Iterable[str]:
    options: _Options = parser._option_string_actions
    name, mark, _ = word.partition("=")
    if line.awaiting is not None:
        return _values_of(line.awaiting, line)
    if mark and name in options:
        return [f"{name}={value}" for value in _values_of(options[name], line)]
    if word.startswith("-"):
        return _shown_options(options)
    expected = [action for action in parser._actions if not action.option_strings]
    place = len(line.positionals)
    return _values_of(expected[place], line) if place < len(expected) else []


def _shown_options(options: _Options) -> Iterator[str]:
    for name, action in options.items():
        if action.help != argparse.SUPPRESS and name.startswith("--"):
            yield name


def _values_of(action: argparse.Action, line: _Line) -> Iterable[str]:
    if action.choices is not None:
        return [str(choice) for choice in action.choices]
    if action.dest in _FEED_OPTIONS:
        return _feeds(line)
    if action.dest == "owner":
        return _owners()
    if action.dest == "symbol" or action.dest in _SYMBOL_OPTIONS:
        return (symbol for symbol, _ in _streams(line))
    if action.dest == "timeframe":
        symbol = line.positionals[0]
        return (timeframe for name, timeframe in _streams(line) if name == symbol)
    return []


def _owner_of(line: _Line) -> int | None:
    return chosen_owner(line.values.get("owner", [None])[-1])


def _feeds(line: _Line) -> list[str]:
    from shmfeed.segment.inventory import feeds_with_segment  # noqa: PLC0415 # mmap

    with suppress(ShmfeedError):
        return feeds_with_segment(_owner_of(line))
    return []


def _owners() -> list[str]:
    """Return the other users who have feeds on this host."""
    from shmfeed.segment.inventory import feeds_of_others  # noqa: PLC0415 # mmap

    with suppress(ShmfeedError):
        return [user_name(user) for user in feeds_of_others()]
    return []


def _streams(line: _Line) -> list[tuple[str, str]]:
    from shmfeed.cli.options import chosen_feed  # noqa: PLC0415 # for symbols alone
    from shmfeed.feed import attach  # noqa: PLC0415 # as above

    given = line.values.get("feed", [None])
    name = chosen_feed(argparse.Namespace(feed=given[-1]))
    with suppress(ShmfeedError), attach(name, owner=_owner_of(line)) as feed:
        return [(symbol, timeframe) for symbol, timeframe in feed.streams()]
    return []


def _fitting(word: str, candidates: Iterable[str]) -> list[str]:
    found = dict.fromkeys(one for one in candidates if one.startswith(word))
    return list(found)
