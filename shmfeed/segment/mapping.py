"""Where a feed's segment lives, and how it is opened, checked and mapped.

Readers map the object themselves, read-only, and never through
`multiprocessing.shared_memory`: its resource tracker would remove a live feed when a
reader exits. Nobody closes a mapping: it goes when the last array over it goes, so
that a slice can never point to memory that is no longer there.
"""

import errno
import mmap
import os
import stat
import sys
from pathlib import Path
from typing import NamedTuple

from shmfeed.errors import FeedNotFoundError, SegmentError, SegmentFormatError
from shmfeed.layout import (
    H_GUARD,
    H_MAX_STREAMS,
    H_READY,
    H_SIZE,
    H_SLOTS,
    HEADER_WORDS,
    MAGIC,
    MAGIC_SHIFT,
    MAX_HISTORY,
    MAX_STREAMS,
    VERSION,
    WORD,
    Geometry,
)
from shmfeed.memory.words import Words, fence
from shmfeed.segment import platform
from shmfeed.validation import check_feed_name

SHARED_MEMORY = Path("/dev/shm")


class Place(NamedTuple):
    """Where one feed of this user lives. Never taken from the environment: two
    processes with different environments must meet at the same lock."""

    name: str
    object_name: str  # of the POSIX object
    segment: Path
    directory: Path  # 0700, of the lock and the socket
    lock: Path
    socket: Path

    @property
    def successor(self) -> Path:
        """Where a segment is made that is to replace another; no feed has such a
        name."""
        return self.segment.with_name(self.segment.name + "~")


def place(feed: str) -> Place:
    """The place of a feed; BadArgumentError for a name that is not accepted.

    Raises UnsupportedPlatformError where feeds have no place.
    """
    name = check_feed_name(feed)
    check_platform()
    uid = os.geteuid()
    directory = SHARED_MEMORY / f"shmfeed-{uid}"
    object_name = f"shmfeed.{uid}.{name}"
    return Place(
        name,
        object_name,
        SHARED_MEMORY / object_name,
        directory,
        directory / f"{name}.lock",
        directory / f"{name}.sock",
    )


class Mapping(NamedTuple):
    """A segment in memory: its words, its sizes, and which object it is."""

    words: Words
    geometry: Geometry
    identity: tuple[int, int]  # device and inode


def check_platform() -> None:
    """UnsupportedPlatformError where live feeds cannot work, saying why."""
    platform.check(SHARED_MEMORY)


def open_segment(where: Place) -> Mapping:
    """Map a feed's segment read-only.

    Raises FeedNotFoundError where there is none, or none that is ready yet,
    SegmentFormatError for one that is not a segment of this layout and this user, and
    SegmentError where the host has no descriptor or no memory for it.
    """
    fd = open_checked(where, os.O_RDONLY)
    try:
        return map_segment(where, fd, mmap.ACCESS_READ)
    finally:
        os.close(fd)


def open_checked(where: Place, access: int) -> int:
    """A descriptor of the segment; it is a regular file of this user, mode 0600."""
    check_platform()
    try:
        fd = os.open(where.segment, access | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise not_found(where) from None
    except OSError as error:
        if error.errno in _HOST_IS_SHORT:
            raise _short(where, error) from error
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
    """Map an open segment and check its header against the file, once."""
    status = os.fstat(fd)
    if status.st_size < HEADER_WORDS * WORD or not read_word(fd, H_READY):
        # Also the moment between a segment's creation and its sizing; and it has no
        # pages before it is ready: a load would be death where there is no room.
        raise not_found(where)
    whole_words = status.st_size - status.st_size % WORD
    try:
        pages = mmap.mmap(fd, whole_words, access=access)
    except OSError as error:
        raise _short(where, error) from error
    except ValueError:  # cut since it was looked at
        raise not_found(where) from None
    words = Words(pages, str(where.segment))
    geometry = read_geometry(where, words, status.st_size)
    return Mapping(words, geometry, (status.st_dev, status.st_ino))


def read_geometry(where: Place, words: Words, size: int) -> Geometry:
    """The sizes that the header states, if they are those of this file.

    They are read once and copied: nobody trusts them to stay what they were.
    """
    ready = words.ints[H_READY]
    fence()  # acquire: pairs with that of `publish`
    if ready >> MAGIC_SHIFT != MAGIC:
        raise SegmentFormatError(
            f"{where.segment} is not a shmfeed segment (first word {ready:#x});"
            " move it away, or use another feed name"
        )
    version = ready & ((1 << MAGIC_SHIFT) - 1)
    if version != VERSION:
        raise SegmentFormatError(
            f"{where.segment} has layout version {version}, this shmfeed reads"
            f" {VERSION}: restart the feeder with this version, or upgrade this process"
        )
    stated = words.ints[H_SIZE]
    geometry = Geometry(*words.ints[H_MAX_STREAMS : H_GUARD + 1].tolist())
    sound = (
        1 <= geometry.max_streams <= MAX_STREAMS
        and 1 <= geometry.history <= MAX_HISTORY
        and 1 <= geometry.guard <= MAX_HISTORY
        and words.ints[H_SLOTS] == geometry.slots
        and stated == geometry.size
    )
    if not sound or size < geometry.size:
        raise SegmentFormatError(
            f"{where.segment} is damaged: {size} bytes, its header says {stated}, with"
            f" {geometry}; restart its feeder, which makes it anew, or stop it and"
            " remove it: shmfeed clean"
        )
    return geometry


def read_word(fd: int, number: int) -> int:
    """A word of an open segment that is not mapped; 0 where it is too short."""
    content = os.pread(fd, WORD, number * WORD)
    return int.from_bytes(content, sys.byteorder) if len(content) == WORD else 0


def check_ours(where: Place, fd: int) -> int:
    """The first word of an open object that a feeder made, 0 of an unfinished one.

    SegmentFormatError for any other content: it stays as it is.
    """
    ready, size = read_word(fd, H_READY), read_word(fd, H_SIZE)
    whole = os.fstat(fd).st_size
    begun = any(os.pread(fd, min(whole, WORD), 0))  # also where it is less than a word
    unfinished = not begun and size in (0, whole)
    if not unfinished and ready >> MAGIC_SHIFT != MAGIC:
        raise SegmentFormatError(
            f"{where.segment} is not a shmfeed segment; it stays as it is: move it"
            " away, or use another feed name"
        )
    return ready


def not_found(where: Place) -> FeedNotFoundError:
    """The error for a feed that is not there; it says what to start."""
    return FeedNotFoundError(
        errno.ENOENT,
        f"there is no feed {where.name!r} on this host; start it with"
        f" `shmfeed run --feed {where.name} --symbols .. --resolutions ..`",
        str(where.segment),
    )


def identity_by_name(where: Place) -> tuple[int, int] | None:
    """Device and inode of the object that bears the name now, None if none does."""
    try:
        status = where.segment.lstat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _check_file(where: Place, status: os.stat_result) -> None:
    problem = None
    if not stat.S_ISREG(status.st_mode):
        problem = "it is not a regular file"
    elif status.st_uid != os.geteuid():
        problem = f"it belongs to user {status.st_uid}, not to {os.geteuid()}"
    elif status.st_nlink > 1:
        problem = f"it has {status.st_nlink} names (hard links), one may be another's"
    elif stat.S_IMODE(status.st_mode) & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        problem = f"its mode is {mode:04o}, other users may touch it; it must be 0600"
    if problem:
        raise SegmentFormatError(
            f"{where.segment} is refused: {problem}; move it away, or use another"
            " feed name"
        )


_HOST_IS_SHORT = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}


def _short(where: Place, error: OSError) -> SegmentError:
    return SegmentError(
        f"{where.segment} cannot be opened or mapped: {error.strerror}; it is as it"
        " was: raise this process's limits (ulimit -n, ulimit -v), or free some"
    )


def _reason(error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "it is a symbolic link"
    return error.strerror or str(error)
