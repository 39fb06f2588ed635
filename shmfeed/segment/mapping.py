"""The files of a feed, and opening, checking and mapping its segment.

Readers map the segment by themselves, read-only, never through
`multiprocessing.shared_memory`: its resource tracker would unlink a live feed when a
reader exits. No mapping is closed explicitly: it is unmapped when its last array is
freed, so a slice always has its memory.
"""

import errno
import mmap
import os
import stat
import sys
from pathlib import Path
from typing import NamedTuple

from shmfeed.accounts import chosen_owner
from shmfeed.errors import (
    FeedNotFoundError,
    SegmentError,
    SegmentFormatError,
    UnsupportedPlatformError,
)
from shmfeed.layout import (
    H_COLUMN_SIZE,
    H_ENTRY_SIZE,
    H_ENTRY_START,
    H_GUARD,
    H_MAX_STREAMS,
    H_READY,
    H_SIZE,
    H_SLOT_SIZE,
    H_SLOT_START,
    H_SLOTS,
    MAGIC,
    MAGIC_SHIFT,
    MAX_HISTORY,
    MAX_STREAMS,
    OLDEST_VERSION,
    READY,
    V1_HEADER_WORDS,
    VERSION,
    WORD,
    Geometry,
)
from shmfeed.memory.words import Words, fence
from shmfeed.segment import platform
from shmfeed.validation import check_feed_name

Identity = tuple[int, int]  # of a file: its device and inode
TAKEOVER_SUFFIX = ".takeover"  # of the sockets by which a feeder takes a feed over


class Place(NamedTuple):
    """The files of one feed of a user.

    Those of a feed to write do not depend on the environment: two processes with
    different environments must find the same lock.
    """

    name: str
    object_name: str  # of the POSIX shared-memory object
    segment: Path
    directory: Path  # holds lock and socket, mode 0700
    lock: Path
    socket: Path
    owner: int  # the user

    @property
    def successor(self) -> Path:
        """The path of a new segment until it replaces the old one.

        No feed name ends in a tilde.
        """
        return self.segment.with_name(self.segment.name + "~")


def place(feed: str, owner: int | None = None) -> Place:
    """Return the files of a feed of this user, or of `owner`.

    Raises BadArgumentError for a bad name, UnsupportedPlatformError where live feeds
    cannot work.
    """
    name = check_feed_name(feed)
    platform.check_platform()
    uid = os.geteuid() if owner is None else owner
    directory = platform.SHARED_MEMORY / f"shmfeed-{uid}"
    object_name = f"shmfeed.{uid}.{name}"
    return Place(
        name,
        object_name,
        platform.SHARED_MEMORY / object_name,
        directory,
        directory / f"{name}.lock",
        directory / f"{name}.sock",
        uid,
    )


def place_to_read(feed: str, owner: object = None) -> Place:
    """Return the files of a feed to read: of `owner`, else of SHMFEED_OWNER's user.

    Where neither names a user, it is a feed of this user. Raises as `place` does, and
    BadArgumentError for a user that this host does not know.
    """
    return place(feed, chosen_owner(owner))


class Mapping(NamedTuple):
    """A segment in memory."""

    words: Words
    geometry: Geometry
    identity: Identity


def open_segment(where: Place) -> Mapping:
    """Map a feed's segment read-only.

    Raises FeedNotFoundError if it does not exist or is not ready, SegmentFormatError
    for a file that is not a segment of this layout and the place's user, SegmentError
    if the host is out of descriptors or memory, or this user may not read the feed.
    """
    fd = open_checked(where, os.O_RDONLY)
    try:
        return map_segment(where, fd, mmap.ACCESS_READ)
    finally:
        os.close(fd)


def open_checked(where: Place, access: int) -> int:
    """Open the segment if it is a regular file of its user with mode 0600 or 0640.

    Return the descriptor. Raises as `open_segment`.
    """
    platform.check_platform()
    try:
        fd = os.open(where.segment, access | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise feed_not_found(where) from None
    except OSError as error:
        if error.errno in _OUT_OF_RESOURCES:
            raise _out_of_resources(where, error) from error
        if error.errno == errno.EACCES and where.owner != os.geteuid():
            raise _not_readable(where) from error
        raise SegmentFormatError(
            f"{where.segment} cannot be opened as a segment: {_reason(error)}; move it"
            " away, or use another feed name"
        ) from error
    try:
        _check_file(where, os.fstat(fd))
    except BaseException:
        os.close(fd)
        raise
    return fd


def map_segment(where: Place, fd: int, access: int) -> Mapping:
    """Map an open segment and check its header against the file."""
    status = os.fstat(fd)
    if status.st_size < V1_HEADER_WORDS * WORD or not read_word(fd, H_READY):
        # It is being created. Before it is ready it may have no pages, and a load
        # from a mapping without pages raises SIGBUS.
        raise feed_not_found(where)
    whole_words = status.st_size - status.st_size % WORD
    try:
        pages = mmap.mmap(fd, whole_words, access=access)
    except OSError as error:
        raise _out_of_resources(where, error) from error
    except ValueError:  # truncated since fstat
        raise feed_not_found(where) from None
    words = Words(pages, str(where.segment))
    geometry = read_geometry(where, words, status.st_size)
    return Mapping(words, geometry, identity_of(status))


def read_geometry(where: Place, words: Words, size: int) -> Geometry:
    """Return a copy of the header's geometry, checked against the file's size.

    Raises SegmentFormatError. The header is not read again: it may change.
    """
    ready = words.ints[H_READY]
    fence()  # acquire: pairs with the release in `SegmentOwner.publish`
    if ready >> MAGIC_SHIFT != MAGIC:
        raise SegmentFormatError(
            f"{where.segment} is not a shmfeed segment (first word {ready:#x});"
            " move it away, or use another feed name"
        )
    version = ready & ((1 << MAGIC_SHIFT) - 1)
    if not OLDEST_VERSION <= version <= VERSION:
        raise SegmentFormatError(
            f"{where.segment} has layout version {version}, this shmfeed reads"
            f" {OLDEST_VERSION} to {VERSION}: restart the feeder with this version, or"
            " upgrade this process"
        )
    stated = words.ints[H_SIZE]
    streams, history, guard = words.ints[H_MAX_STREAMS : H_GUARD + 1].tolist()
    geometry = Geometry(streams, history, guard, version)
    valid = (
        1 <= geometry.max_streams <= MAX_STREAMS
        and 1 <= geometry.history <= MAX_HISTORY
        and 1 <= geometry.guard <= MAX_HISTORY
        and words.ints[H_SLOTS] == geometry.slots
        and stated == geometry.size
    )
    valid = valid and size >= geometry.size and _states_offsets(words, geometry)
    if not valid:
        raise SegmentFormatError(
            f"{where.segment} is damaged: it has {size} bytes, its header states"
            f" {stated} and {geometry}; restart its feeder, which recreates it, or stop"
            " the feeder and remove the segment: shmfeed clean"
        )
    return geometry


def offset_words(geometry: Geometry) -> dict[int, int]:
    """Return the header words that state a segment's offsets and sizes, by value."""
    return {
        H_ENTRY_START: geometry.entry_word(0),
        H_ENTRY_SIZE: geometry.entry_words,
        H_SLOT_START: geometry.slot_word(0),
        H_SLOT_SIZE: geometry.slot_words,
        H_COLUMN_SIZE: geometry.column_words,
    }


def _states_offsets(words: Words, geometry: Geometry) -> bool:
    # Offsets that differ from those computed for this host's page size are damage.
    stated = offset_words(geometry)
    return geometry.version == 1 or all(words.ints[w] == stated[w] for w in stated)


def open_successor(where: Place, mapping: Mapping) -> Mapping | None:
    """Map the segment that a feed's name leads to, None if it is this one or unusable.

    Raises SegmentFormatError if its layout is newer than VERSION: the feed lives on,
    and the bars of `mapping` would call it dead.
    """
    if identity_at(where.segment) in (None, mapping.identity):
        return None
    try:
        return open_segment(where)
    except (FeedNotFoundError, SegmentError):
        if has_newer_layout(where):
            raise
        return None  # not ready, or not a segment


def has_newer_layout(where: Place) -> bool:
    """Return True if a feed's segment is ready and of a layout newer than VERSION."""
    try:
        fd = open_checked(where, os.O_RDONLY)
    except (FeedNotFoundError, SegmentError):
        return False
    try:
        ready = read_word(fd, H_READY)
    finally:
        os.close(fd)
    return READY < ready < (MAGIC + 1) << MAGIC_SHIFT


def check_layout(feed: str) -> None:
    """Raise SegmentFormatError if a feed has a segment of a newer layout."""
    try:
        where = place(feed)
    except UnsupportedPlatformError:
        return
    if has_newer_layout(where):
        open_segment(where)


def read_word(fd: int, number: int) -> int:
    """Return a word of an open, unmapped segment, or 0 past its end."""
    content = os.pread(fd, WORD, number * WORD)
    return int.from_bytes(content, sys.byteorder) if len(content) == WORD else 0


def read_ready_word(where: Place, fd: int) -> int:
    """Return the ready word of an open segment of any layout, 0 of an unfinished one.

    Raises SegmentFormatError if the content is not a segment.
    """
    ready, stated = read_word(fd, H_READY), read_word(fd, H_SIZE)
    size = os.fstat(fd).st_size
    begun = any(os.pread(fd, min(size, WORD), 0))  # the file may be under a word
    unfinished = not begun and stated in (0, size)
    if not unfinished and ready >> MAGIC_SHIFT != MAGIC:
        raise SegmentFormatError(
            f"{where.segment} is not a shmfeed segment; it was not changed; move it"
            " away, or use another feed name"
        )
    return ready


def feed_not_found(where: Place) -> FeedNotFoundError:
    """Return the error for a feed that does not exist; it names the command to run."""
    if where.owner == os.geteuid():
        text = (
            f"there is no feed {where.name!r} on this host; start it with"
            f" `shmfeed run --feed {where.name} --symbols .. --resolutions ..`"
        )
    else:
        text = (
            f"user {where.owner} has no feed {where.name!r} on this host; start it as"
            " that user, or name another owner"
        )
    return FeedNotFoundError(errno.ENOENT, text, str(where.segment))


def identity_of(status: os.stat_result) -> Identity:
    """Return device and inode, which identify a file under any name."""
    return status.st_dev, status.st_ino


def identity_at(path: str | Path) -> Identity | None:
    """Return the identity of the file that has this name now, None without one.

    A symbolic link is not followed.
    """
    try:
        return identity_of(os.lstat(path))
    except OSError:  # no such file or directory, or none that may be entered
        return None


def _check_file(where: Place, status: os.stat_result) -> None:
    problem = None
    if not stat.S_ISREG(status.st_mode):
        problem = "it is not a regular file"
    elif status.st_uid != where.owner:
        problem = f"it belongs to user {status.st_uid}, not to {where.owner}"
    elif status.st_nlink > 1:
        problem = f"it has {status.st_nlink} names (hard links)"
    elif status.st_mode & 0o037:
        mode = stat.S_IMODE(status.st_mode)
        problem = (
            f"its mode is {mode:04o}, other users may open it; it must be 0600, or 0640"
            " for a group that reads it"
        )
    if problem:
        raise SegmentFormatError(
            f"{where.segment} is refused: {problem}; move it away, or use another"
            " feed name"
        )


def _not_readable(where: Place) -> SegmentError:
    return SegmentError(
        f"{where.segment} belongs to user {where.owner}, and user {os.geteuid()} may"
        " not read it: give its feeder the setting group, with a group that this user"
        " is a member of, and log in again after a change of its groups"
    )


_OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}


def _out_of_resources(where: Place, error: OSError) -> SegmentError:
    return SegmentError(
        f"{where.segment} cannot be opened or mapped: {error.strerror}; raise this"
        " process's limits (ulimit -n, ulimit -v), or free some of it"
    )


def _reason(error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "it is a symbolic link"
    return error.strerror or str(error)
