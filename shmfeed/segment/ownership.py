"""The writer's hold on a segment: two locks, adoption, creation, removal.

One writer a feed: a lock file in the feed's directory, and a lock on the segment
itself, which holds also when somebody removes the lock file. The holder compares both
with their names at each beat and stops when they are no longer its own. A segment is
unlinked only while both are held.

A segment of another geometry is replaced by one rename, after its bars are in the new
one: whoever is killed on the way leaves the old one as it was, and an unfinished
successor that the next holder removes. So is a damaged one, whose sound bars are kept.
"""

import logging
import mmap
import os
import struct
import weakref
from pathlib import Path

from shmfeed.errors import FeedLostError, FeedNotFoundError, SegmentFormatError
from shmfeed.layout import (
    H_GUARD,
    H_HISTORY,
    H_MAX_STREAMS,
    H_READY,
    H_RETIRED,
    H_SIZE,
    H_SLOTS,
    READY,
    WORD,
    Geometry,
)
from shmfeed.memory.words import Words, fence
from shmfeed.segment.allocation import make_object, room_for
from shmfeed.segment.locking import (
    Identity,
    busy,
    identity_of,
    lock_file,
    lock_object,
    make_directory,
    sign,
)
from shmfeed.segment.mapping import (
    Mapping,
    Place,
    check_ours,
    check_platform,
    map_segment,
    open_checked,
)
from shmfeed.segment.recovery import survey

log = logging.getLogger(__name__)
_MOST_SAID = 5


class SegmentOwner:
    """The right to write one feed, until `release`.

    `mapping` is the segment, seen by readers once it is published; `adopted` says
    whether it was there before, `previous` is the one that it replaces, if there is
    one: it serves readers until then, and is retired after.

    A forked child owns nothing: its copy is disowned, and its descriptors of the
    locks are closed, so that they end with the parent.
    """

    def __init__(self, where: Place, geometry: Geometry) -> None:
        """Raises FeedBusyError naming the holder's pid, SegmentFullError,
        SegmentFormatError for what is not ours, SegmentError for what else the host
        refuses; nothing is held then."""
        check_platform()
        self.where = where
        self.previous: Mapping | None = None
        self._owner = os.getpid()
        self._path = where.segment  # of our segment, at present
        self._locked: list[int] = []  # descriptors of the segments that we lock
        # One that was dropped without `release` locks nothing any more.
        weakref.finalize(self, _close, self._locked).atexit = False
        with room_for(where, geometry):
            make_directory(where.directory)
            self._lock = lock_file(where)
            try:
                self._lock_identity = sign(where.lock)
                mapping = self._adopt(geometry)
                _remove_unfinished(where)
                self.adopted = mapping is not None
                self.mapping = mapping or self._create(geometry)
            except BaseException:
                self._unlock()
                raise
        _holdings.add(self)

    def _adopt(self, geometry: Geometry) -> Mapping | None:
        """The segment that is there, if it serves as it is."""
        try:
            fd = open_checked(self.where, os.O_RDWR)
        except FeedNotFoundError:
            return None
        try:
            self._lock_segment(self.where.segment)
            if identity_of(fd) != identity_of(self._locked[0]):
                raise busy(self.where, None)  # who replaced it just now
            ready = check_ours(self.where, fd)
            mapping = self._map(fd)
            if mapping is not None and mapping.words.ints[H_RETIRED] != 1:
                if _serves(mapping, geometry):
                    return mapping
                self.previous = mapping
                self._path = self.where.successor
                return None
            if ready:
                # This word has its place in every layout version.
                os.pwrite(fd, struct.pack("=q", 1), H_RETIRED * WORD)
            self._remove()
        finally:
            os.close(fd)
        return None

    def _map(self, fd: int) -> Mapping | None:
        """The mapped segment, None if its header makes it no use."""
        try:
            return map_segment(self.where, fd, mmap.ACCESS_WRITE)
        except FeedNotFoundError:
            return None  # its maker died before it was ready
        except SegmentFormatError as error:
            log.warning("made anew, none of its bars can be kept: %s", str(error))
            return None

    def _create(self, geometry: Geometry) -> Mapping:
        try:
            make_object(self._path.name, geometry.size)
        except FileExistsError as error:
            raise SegmentFormatError(
                f"{self._path} appeared while it was being made; try again"
            ) from error
        try:
            self._path.chmod(0o600)  # the umask may have left less
            self._lock_segment(self._path)
            os.posix_fallocate(self._locked[-1], 0, geometry.size)
            return self._write_header(geometry)
        except OSError:
            self._remove()
            raise

    def _write_header(self, geometry: Geometry) -> Mapping:
        fd = os.open(self._path, os.O_RDWR | os.O_NOFOLLOW)
        try:
            pages = mmap.mmap(fd, geometry.size, access=mmap.ACCESS_WRITE)
            words = Words(pages, str(self.where.segment))
            identity = identity_of(fd)
        finally:
            os.close(fd)
        ints = words.ints
        ints[H_SIZE] = geometry.size
        ints[H_MAX_STREAMS] = geometry.max_streams
        ints[H_HISTORY] = geometry.history
        ints[H_GUARD] = geometry.guard
        ints[H_SLOTS] = geometry.slots
        return Mapping(words, geometry, identity)

    def publish(self) -> None:
        """Let readers in: a new segment is whole, with the bars that it takes over.

        Raises FeedLostError if somebody put another one in the old one's place.
        """
        fence()  # release: pairs with that of read_geometry
        self.mapping.words.ints[H_READY] = READY
        if self.previous is None or self._path == self.where.segment:
            return
        if _identity(self.where.segment) not in (None, self.previous.identity):
            raise self._lost(self.where.segment)
        self._path.rename(self.where.segment)
        self._path = self.where.segment
        self.previous.words.ints[H_RETIRED] = 1
        os.close(self._locked.pop(0))

    def _lock_segment(self, path: Path) -> None:
        self._locked.append(lock_object(self.where, path))

    def check(self) -> None:
        """FeedLostError if segment or lock no longer bear their names, or the segment
        was cut: a store beyond its end would end this process."""
        held = (
            (self._path, self.mapping.identity, self.mapping.geometry.size),
            (self.where.lock, self._lock_identity, 0),
        )
        for path, identity, size in held:
            status = _look(path)
            if status is None or (status.st_dev, status.st_ino) != identity:
                raise self._lost(path)
            if status.st_size < size:
                raise FeedLostError(
                    f"{path} was cut to {status.st_size} bytes, it had {size}; start"
                    " the feeder again"
                )

    def is_whole(self) -> bool:
        """Whether the segment has all its pages: a store beyond them is death."""
        return os.fstat(self._locked[-1]).st_size >= self.mapping.geometry.size

    def _lost(self, path: Path) -> FeedLostError:
        return FeedLostError(
            f"{path} is no longer the one that this feeder (pid {os.getpid()})"
            " holds: it was removed or replaced; start the feeder again"
        )

    def release(self, unlink: bool) -> None:
        """Let go; with `unlink` the segment goes too, retired first. Idempotent."""
        if self._owner != os.getpid() or not self._lock.is_locked:
            return
        if unlink and _identity(self._path) == self.mapping.identity:
            if self.is_whole():
                self.mapping.words.ints[H_RETIRED] = 1
            self._remove()
        self._unlock()

    def disown(self) -> None:
        """In a forked child: it owns nothing."""
        self._owner = -1
        self._unlock_segments()

    def _remove(self) -> None:
        self._path.unlink(missing_ok=True)
        self._unlock_segments()

    def _unlock(self) -> None:
        self._unlock_segments()
        self._lock.release()

    def _unlock_segments(self) -> None:
        _close(self._locked)


def _close(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())


_holdings: weakref.WeakSet[SegmentOwner] = weakref.WeakSet()


def _disown_all() -> None:
    for holding in list(_holdings):
        holding.disown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_all)


def _remove_unfinished(where: Place) -> None:
    """Remove what a holder that died on the way has left; SegmentFormatError for a
    file that is not ours."""
    unfinished = where._replace(segment=where.successor)
    try:
        fd = open_checked(unfinished, os.O_RDWR)
    except FeedNotFoundError:
        return
    try:
        check_ours(unfinished, fd)
    finally:
        os.close(fd)
    unfinished.segment.unlink(missing_ok=True)


def _serves(mapping: Mapping, geometry: Geometry) -> bool:
    """Whether it can be gone on with; what is damaged in it goes to the log."""
    words, found, _ = mapping
    sound, damage = survey(words, found)
    if damage:
        log.warning(
            "%s is damaged and made anew with the bars of %d streams: %s",
            words.name,
            len(sound),
            "; ".join(damage[:_MOST_SAID]) + ("; .." if damage[_MOST_SAID:] else ""),
        )
    return found == geometry and not damage


def _look(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except OSError:  # it is not there, or its directory is none any more
        return None


def _identity(path: Path) -> Identity | None:
    status = _look(path)
    return None if status is None else (status.st_dev, status.st_ino)
