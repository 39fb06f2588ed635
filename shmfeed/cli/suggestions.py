"""Mistakes on the command line, each with the nearest correct word."""

import argparse
import difflib
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from shmfeed.bar import check_timeframe
from shmfeed.errors import ShmfeedError, StreamNotFoundError
from shmfeed.text import shorten

if TYPE_CHECKING:
    from shmfeed.feed import Feed, Ring

_MAX_FEEDS = 20
_HEADER_PREFIX = "--header"  # their values are secrets too
_TOKEN_PREFIXES = ("--csrf", "--token")  # options that a user might try for a token
_PASSWORD_PREFIXES = ("--redis-pass", "--password")
_SECRET = re.compile(r"--?[\w-]*(?:pass|secret|key|cookie|auth|cred)", re.IGNORECASE)


def suggest(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean X?` for the known word nearest to `word`.

    Return an empty string if no known word is near, or if `word` itself is known, since
    the mistake is then elsewhere.
    """
    words = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word[:64].lower(), list(words), 1)
    if not near or words[near[0]] == word:
        return ""
    return f"; did you mean {words[near[0]]}?"


def describe_unknown_command(name: str, known: list[str]) -> str:
    near = suggest(name, known) or f"; one of: {' '.join(known)}"
    return f"invalid choice: {name[:80]!r}{near}"


def describe_unknown_arguments(
    parser: argparse.ArgumentParser, unknown: Sequence[str]
) -> str | None:
    """Return the message for arguments that a command does not have, None for none.

    The message never repeats what may be a secret.
    """
    if not unknown:
        return None
    if any(word.startswith(_TOKEN_PREFIXES) for word in unknown):
        return (
            "unrecognized arguments: a token is not accepted here, because other users"
            " can read arguments; set WEBSOCKET_CSRF_TOKEN, or csrf_token in a file"
        )
    if any(word.startswith(_HEADER_PREFIX) for word in unknown):
        return (
            "unrecognized arguments: headers are not accepted here, because other users"
            " can read arguments; set SHMFEED_HEADERS, or headers in a file"
        )
    if any(word.startswith(_PASSWORD_PREFIXES) for word in unknown):
        return (
            "unrecognized arguments: a password is not accepted here, because other"
            " users can read arguments; set SHMFEED_REDIS_PASSWORD, or"
            " redis_password_file"
        )
    known = [option for option in _options(parser) if option.startswith("--")]
    near = suggest(unknown[0].partition("=")[0], known)
    shown = list(unknown)
    if any(map(_SECRET.match, unknown)):
        shown = [word.partition("=")[0] for word in unknown if word.startswith("-")]
    words = " ".join(word if word.isprintable() else repr(word) for word in shown)
    return f"unrecognized arguments: {words[:200]}{near}"


def describe_repeated_option(
    parser: argparse.ArgumentParser, words: Sequence[str]
) -> str | None:
    """Return the message for an option that is given twice, None for none.

    argparse would take the last one silently.
    """
    options = _options(parser)
    seen: Counter[str] = Counter()
    for word in words:
        if word == "--":
            break
        action = options.get(word.partition("=")[0])
        if action is None and not word.startswith("--"):
            action = options.get(word[:2])  # as in -n5
        if action is not None and not isinstance(action, argparse._AppendAction):
            seen[action.dest] += 1
            if seen[action.dest] > 1:
                return f"argument {'/'.join(action.option_strings)}: given twice"
    return None


def suggest_feeds(missing_segment: str | None) -> str:
    """Return the clauses that name the other feeds of a feed's user, and other users'.

    Return an empty string where no feed exists.

    Args:
        missing_segment: The path of the segment that cannot be attached.
    """
    from shmfeed.listing import describe_other_feeds  # noqa: PLC0415  loads mmap
    from shmfeed.segment.inventory import feeds_with_segment  # noqa: PLC0415  as above
    from shmfeed.segment.mapping import place  # noqa: PLC0415  as above

    try:
        owner, missing = _owner_and_feed(missing_segment)
        feeds = feeds_with_segment(owner)
        others = describe_other_feeds(missing) if owner == os.geteuid() else ""
    except ShmfeedError:
        return ""
    if missing_segment in [str(place(name, owner).segment) for name in feeds]:
        return "; its segment exists but is not ready, see `shmfeed ls`"
    more = ", .." if len(feeds) > _MAX_FEEDS else ""
    names = ", ".join(feeds[:_MAX_FEEDS])
    if not names:
        return others
    if owner != os.geteuid():
        return f"; user {owner} has the feeds: {names}{more}"
    return f"; the feeds of this user are: {names}{more}{others}"


def _owner_and_feed(segment: str | None) -> tuple[int, str | None]:
    """Return the user and the feed that the path of a segment names."""
    parts = (segment or "").rpartition("/")[2].split(".", 2)
    return (int(parts[1]), parts[2]) if len(parts) == 3 else (os.geteuid(), None)


def find_ring(feed: "Feed", symbol: str, timeframe: str) -> "Ring":
    """Return a feed's ring; raise StreamNotFoundError, which names the nearest one."""
    try:
        return feed.ring(symbol, check_timeframe(timeframe))
    except StreamNotFoundError as error:
        near = suggest(symbol, [key[0] for key in feed.streams()])
        raise StreamNotFoundError(f"{shorten(str(error))}{near}") from None


def _options(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    return parser._option_string_actions  # argparse has no public way to them
