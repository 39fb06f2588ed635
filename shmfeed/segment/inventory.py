"""Which feeds have something on this host: a segment, a successor, a socket."""

import os
from pathlib import Path
from typing import NamedTuple

from shmfeed.errors import (
    BadArgumentError,
)
from shmfeed.segment.mapping import Place, place

_SOCKET = ".sock"
_ANY = "any"  # for what is the same of every feed


class Names(NamedTuple):
    """Feeds by name, and paths under our prefix that no feed can have."""

    feeds: list[str]
    strangers: list[Path]


def names_here() -> Names:
    """What there is of this user; UnsupportedPlatformError.

    A lock file alone is nothing: it stays when its feed goes.
    """
    where = place(_ANY)
    prefix = where.segment.name.removesuffix(_ANY)
    found: dict[str, Path] = {}
    for entry in _listing(where.segment.parent):
        if entry.startswith(prefix):
            name = entry.removeprefix(prefix).removesuffix("~")
            found.setdefault(name, where.segment.with_name(entry))
    if not where.directory.is_symlink():
        for entry in _listing(where.directory):
            if entry.endswith(_SOCKET):
                name = entry.removesuffix(_SOCKET)
                found.setdefault(name, where.directory / entry)
    feeds = [name for name in found if _is_name(name)]
    return Names(sorted(feeds), sorted(found[n] for n in found.keys() - set(feeds)))


def feeds_here() -> list[str]:
    """The feeds that have a segment, by name; UnsupportedPlatformError."""
    return [name for name in names_here().feeds if _has_segment(name)]


def has_anything(where: Place) -> bool:
    """Whether there is anything of this feed."""
    paths = where.segment, where.successor, where.socket
    return any(os.path.lexists(path) for path in paths)


def _listing(directory: Path) -> list[str]:
    try:
        return [path.name for path in directory.iterdir()]
    except OSError:  # not there, or another user's
        return []


def _has_segment(name: str) -> bool:
    return os.path.lexists(place(name).segment)


def _is_name(name: str) -> bool:
    try:
        place(name)
    except BadArgumentError:
        return False
    return True
