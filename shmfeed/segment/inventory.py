"""Inventory of a user's feeds on this host: segments, unfinished ones, sockets."""

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from shmfeed.errors import BadArgumentError
from shmfeed.segment.mapping import TAKEOVER_SUFFIX, Place, place

_SOCKET, _LOCK = ".sock", ".lock"
_REPLAY = re.compile(r"replay-\d+-\d+-[0-9a-f]{4}")
_TAKEOVER = re.compile(rf"(.+)\.[0-9a-f]{{16}}{re.escape(TAKEOVER_SUFFIX)}")
_ANY = "any"  # any feed name: only the common prefix and directory of its files count


class Inventory(NamedTuple):
    """The names of feeds, and the paths with our prefix whose rest names no feed."""

    feeds: list[str]
    foreign: list[Path]


def take_inventory(owner: int | None = None) -> Inventory:
    """List all feeds of this user, or of `owner`, that have a file.

    A lock file alone does not count: it outlives its feed. Raises
    UnsupportedPlatformError if live feeds cannot work here.
    """
    where = place(_ANY, owner)
    prefix = where.segment.name.removesuffix(_ANY)
    found: dict[str, Path] = {}
    for entry in _files_in(where.segment.parent):
        if entry.startswith(prefix):
            name = entry.removeprefix(prefix).removesuffix("~")
            found.setdefault(name, where.segment.with_name(entry))
    if not where.directory.is_symlink():
        for entry in _files_in(where.directory):
            if entry.endswith(_SOCKET):
                name = entry.removesuffix(_SOCKET)
                found.setdefault(name, where.directory / entry)
            elif match := _TAKEOVER.fullmatch(entry):
                found.setdefault(match[1], where.directory / entry)
    feeds = [name for name in found if _is_feed_name(name)]
    return Inventory(sorted(feeds), sorted(found[n] for n in found.keys() - set(feeds)))


def feeds_with_segment(owner: int | None = None) -> list[str]:
    """Return the names of the feeds of this user, or of `owner`, with a segment.

    Raises UnsupportedPlatformError if live feeds cannot work here.
    """
    feeds = take_inventory(owner).feeds
    return [name for name in feeds if os.path.lexists(place(name, owner).segment)]


def feeds_of_others() -> dict[int, list[str]]:
    """Return the names of other users' feeds, by the number of the user.

    Only a segment of the user whom its name tells counts: any user may create a file
    of any name. Raises UnsupportedPlatformError if live feeds cannot work here.
    """
    found: dict[int, list[str]] = {}
    where = place(_ANY)
    program = where.segment.name.partition(".")[0]
    for entry in sorted(_files_in(where.segment.parent)):
        prefix, _, rest = entry.partition(".")
        user, _, feed = rest.partition(".")
        if prefix != program or not user.isdecimal() or int(user) == os.geteuid():
            continue
        with suppress(OSError):  # it may be gone by now
            is_theirs = where.segment.with_name(entry).lstat().st_uid == int(user)
            if is_theirs and _is_feed_name(feed):
                found.setdefault(int(user), []).append(feed)
    return found


def is_replay(feed: str) -> bool:
    """Return True for a name that the feed of a replay has."""
    return _REPLAY.fullmatch(feed) is not None


def has_files(where: Place) -> bool:
    """Return True if a feed has a file, other than its lock file."""
    paths = where.segment, where.successor, where.socket
    return any(map(os.path.lexists, paths)) or bool(takeover_sockets(where))


def takeover_sockets(where: Place) -> list[Path]:
    """Return the sockets of feeders that take a feed over, or were killed doing so."""
    if where.directory.is_symlink():
        return []
    found = map(_TAKEOVER.fullmatch, sorted(_files_in(where.directory)))
    return [where.directory / one[0] for one in found if one and one[1] == where.name]


def lock_files() -> list[Path]:
    """Return the lock files of this user, those of feeds without other files too.

    Raises UnsupportedPlatformError if live feeds cannot work here.
    """
    directory = place(_ANY).directory
    if directory.is_symlink():
        return []
    names = [name for name in _files_in(directory) if name.endswith(_LOCK)]
    return [directory / name for name in sorted(names)]


def _files_in(directory: Path) -> list[str]:
    try:
        return [path.name for path in directory.iterdir()]
    except OSError:  # absent, or another user's
        return []


def _is_feed_name(name: str) -> bool:
    try:
        place(name)
    except BadArgumentError:
        return False
    return True
