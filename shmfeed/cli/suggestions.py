"""What was typed wrong, and what was probably meant."""

import argparse
import difflib
from collections import Counter
from collections.abc import Iterable, Sequence

from shmfeed.errors import ShmfeedError

_MOST_FEEDS = 20
_TOKEN_OPTIONS = ("--csrf", "--token")  # as somebody may begin what is none


def meant(word: str, known: Iterable[str]) -> str:
    """Which of the known was probably meant, to be added to a sentence; or nothing.

    The word itself is none: its fault is another.
    """
    names = {one.lower(): one for one in known}
    near = difflib.get_close_matches(word[:64].lower(), list(names), 1)
    if not near or names[near[0]] == word:
        return ""
    return f"; did you mean {names[near[0]]}?"


def no_command(name: str, known: list[str]) -> str:
    """The words for a command that is not there."""
    near = meant(name, known) or f"; one of: {' '.join(known)}"
    return f"invalid choice: {name[:80]!r}{near}"


def unknown_words(
    parser: argparse.ArgumentParser, unknown: Sequence[str]
) -> str | None:
    """The words for arguments that a command does not have, None if there are none."""
    if not unknown:
        return None
    if any(word.startswith(_TOKEN_OPTIONS) for word in unknown):
        return (  # without what stands behind it
            "unrecognized arguments: a token; it comes from WEBSOCKET_CSRF_TOKEN or"
            " the file, other users can read arguments"
        )
    known = [option for option in _options(parser) if option.startswith("--")]
    near = meant(unknown[0].partition("=")[0], known)
    shown = " ".join(word if word.isprintable() else repr(word) for word in unknown)
    return f"unrecognized arguments: {shown[:200]}{near}"


def repeated(parser: argparse.ArgumentParser, words: Sequence[str]) -> str | None:
    """The words for an option that is given twice, None if there is none.

    argparse would take the last silently.
    """
    options = _options(parser)
    seen: Counter[str] = Counter()
    for word in words:
        if word == "--":
            break
        action = options.get(word.partition("=")[0])
        if action is None and not word.startswith("--"):
            action = options.get(word[:2])  # as -n5
        if action is not None:
            seen[action.dest] += 1
            if seen[action.dest] > 1:
                return f"argument {'/'.join(action.option_strings)}: given twice"
    return None


def feeds_there(missed: str | None) -> str:
    """Which feeds there are, to be added to a sentence; empty where there are none.

    `missed` is the path of the segment that was none.
    """
    from shmfeed.segment.inventory import feeds_with_segment  # noqa: PLC0415  loads numpy
    from shmfeed.segment.mapping import place  # noqa: PLC0415  so does this

    try:
        feeds = feeds_with_segment()
    except ShmfeedError:
        return ""
    if missed in [str(place(name).segment) for name in feeds]:
        return "; what bears its name is not ready, see `shmfeed ls`"
    more = ", .." if len(feeds) > _MOST_FEEDS else ""
    there = ", ".join(feeds[:_MOST_FEEDS])
    return f"; feeds that are here: {there}{more}" if there else ""


def _options(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    return parser._option_string_actions  # argparse offers no other way to them
