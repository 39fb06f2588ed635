"""Exclusive ownership of a feed's segment: reuse, recreation, release, removal.

A feed has one writer. It holds two locks: the lock file in the feed's directory, and a
lock on the segment itself, which still holds if the lock file is removed. At each
heartbeat the owner compares both files with their names and its descriptors with both
files. It stops if one was removed or replaced, if a descriptor is no longer its lock,
or if the segment was truncated. It unlinks a segment only while it holds both locks.

The owner is also the right to write the segment, which each RingWriter holds: the locks
last as long as the FeedWriter or one of its RingWriters. The word of that right is in
memory that any fork wipes, so a child never writes.

A segment that is damaged or of another geometry is recreated. Its usable bars are
copied into a new segment, which one rename puts in its place. An owner that is killed
in between leaves the old segment untouched, and an unfinished one that the next owner
removes.
"""

import logging
import mmap
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from shmfeed.accounts import group_number, may_give_to
from shmfeed.errors import (
    BadArgumentError,
    FeedBusyError,
    FeedLostError,
    FeedNotFoundError,
    SegmentFormatError,
)
from shmfeed.forks import ForkRegistry
from shmfeed.layout import (
    H_READY,
    H_RETIRED,
    H_WRITER_EPOCH,
    READY,
    WORD,
    Geometry,
)
from shmfeed.memory.right import Right
from shmfeed.memory.slots import Reserve, slots_taken
from shmfeed.memory.words import fence
from shmfeed.segment.allocation import (
    allocation_errors,
    reserve,
)
from shmfeed.segment.creation import create_segment, reserve_slots, set_readers
from shmfeed.segment.identity import IdentityRule
from shmfeed.segment.locking import (
    FeedLocks,
    FileLock,
    acquire_lock_file,
    expel_writer,
    feed_busy,
    lock_segment,
    make_directory,
    may_be_locked_by_reader,
    retire,
    show_directory_to,
    write_pid,
)
from shmfeed.segment.mapping import (
    Mapping,
    Place,
    identity_at,
    identity_of,
    map_segment,
    open_checked,
    read_ready_word,
)
from shmfeed.segment.platform import check_platform
from shmfeed.segment.recovery import inspect_segment
from shmfeed.text import counted

log = logging.getLogger(__name__)
_MOST_LISTED = 5  # damages in one log line
_MADV_WIPEONFORK = 18  # not in the module mmap


class SegmentOwner(Right):
    """Exclusive ownership of one feed, from construction to `release`.

    With `group`, its members may read the segment; without, this user alone. A reader
    can take the lock of a segment, which is therefore not the owner's only one: one
    that a reader has locked is replaced by a copy.

    `mapping` is the owned segment. `reused` says that it existed before. `previous` is
    the segment that it replaces, if any. `keeps_bars` is False if that segment's bars
    are of another identity than `rule` wants. `publish` shows the new segment to
    readers and retires the previous one.

    `locks` are those of a writer that hands the feed over; this owner has them from now
    on, also after an error, and the feed is never without a lock.

    A forked child owns nothing: its copy is disowned. Its descriptors of the locks are
    closed, so that the locks end with the parent. An owner that is dropped without
    `release` unlocks too.

    Raises FeedBusyError with the owner's pid, SegmentFullError, SegmentFormatError for
    a file that is not a segment of this user, SegmentError if the host refuses,
    BadArgumentError for a group that this process is no member of, and the errors of
    `rule`. No lock is held after an error.
    """

    def __init__(
        self,
        where: Place,
        geometry: Geometry,
        rule: IdentityRule | None = None,
        group: str | None = None,
        locks: FeedLocks | None = None,
    ) -> None:
        check_platform()
        super().__init__(_private_page())
        self.where = where
        self._group = None if group is None else _own_group(group)
        self.previous: Mapping | None = None
        self.keeps_bars = True
        self._replacing = threading.Lock()  # the beat thread checks the ownership
        self._path = where.segment  # of the owned segment, until it is published
        self._locks: list[FileLock] = []  # of the previous segment and of the owned one
        with allocation_errors(where, geometry):
            make_directory(where.directory)
            if self._group is not None:
                show_directory_to(where.directory, self._group)
            self._handed = None if locks is None else locks.segment
            self._lock_file = acquire_lock_file(where) if locks is None else locks.feed
            try:
                write_pid(self._lock_file)
                mapping = self._reuse(geometry, rule)
                _remove_unfinished(where)
                self.reused = mapping is not None
                self.mapping = mapping or self._create(geometry)
                self.take(self.mapping.words)
            except BaseException:
                self._unlock()
                raise
        _owners.add(self)

    def _reuse(self, geometry: Geometry, rule: IdentityRule | None) -> Mapping | None:
        try:
            fd = open_checked(self.where, os.O_RDWR)
        except FeedNotFoundError:
            return None
        try:
            is_locked = self._lock_unless_by_reader(fd)
            ready = read_ready_word(self.where, fd)
            mapping = self._map(fd)
            if mapping is not None:
                _reserve_used(fd, mapping)
            if mapping is not None and mapping.words.ints[H_RETIRED] != 1:
                if rule is not None:
                    self.keeps_bars = rule.keeps_bars(*mapping[:2])
                if is_locked and self.keeps_bars and _is_reusable(mapping, geometry):
                    self._set_readers()
                    return mapping
                expel_writer(fd)
                self.previous = mapping
                self._path = self.where.successor
                return None
            if ready:
                retire(fd)
            self._remove()
        finally:
            os.close(fd)
        return None

    def _lock_unless_by_reader(self, fd: int) -> bool:
        """Lock the segment. Return False if a reader of the group has it locked."""
        try:
            self._lock_present_segment()
        except FeedBusyError:
            if not may_be_locked_by_reader(self.where, fd):
                raise
            log.warning("%s is locked by a reader; replacing it", self.where.segment)
            return False
        if identity_of(os.fstat(fd)) != self._locks[0].identity:
            raise feed_busy(self.where, None)  # it was replaced since
        return True

    def _set_readers(self) -> None:
        """Let the group read the owned segment, or this user alone."""
        set_readers(self._locks[-1].fileno(), self._group)

    def _map(self, fd: int) -> Mapping | None:
        try:
            return map_segment(self.where, fd, mmap.ACCESS_WRITE)
        except FeedNotFoundError:
            return None  # its owner died before it was ready
        except SegmentFormatError as error:
            log.warning("recreating a segment without its bars: %s", str(error))
            return None

    def _create(self, geometry: Geometry) -> Mapping:
        mapping, lock = create_segment(self.where, self._path, geometry, self._group)
        self._locks.append(lock)
        return mapping

    def reserve_slots(self, first: int, count: int) -> None:
        """Reserve the pages of `count` slots from `first` on that were never used.

        Raises:
            SegmentFullError: /dev/shm has no room for all of them. Nothing was changed.
        """
        reserve_slots(self.where, self.mapping, self._locks[-1], first, count)

    def enlarge(
        self, geometry: Geometry, fill: "Callable[[Mapping, Reserve], None]"
    ) -> None:
        """Put a larger segment in the place of the owned one; readers look for it.

        `fill` gets the new segment and a function that reserves slots of it, and
        completes it.

        Raises:
            SegmentFullError: /dev/shm has no room for it.
            FeedLostError: The owned segment was removed or replaced.

        The owned segment is unchanged after an error.
        """
        self.check_owned()
        path = self.where.successor
        with allocation_errors(self.where, geometry):
            mapping, lock = create_segment(self.where, path, geometry, self._group)
        try:
            mapping.words.ints[H_WRITER_EPOCH] = self._epoch
            fill(mapping, partial(reserve_slots, self.where, mapping, lock))
            fence()  # release: pairs with the acquire in `read_geometry`
            mapping.words.ints[H_READY] = READY
            with self._replacing:
                self._check_named()
                path.rename(self.where.segment)
                previous, self.mapping = self.mapping, mapping
                self._ints = mapping.words.ints
                self._locks.append(lock)
        except BaseException:
            path.unlink(missing_ok=True)
            lock.release()
            raise
        self._retire(previous)

    def _retire(self, previous: Mapping) -> None:
        """Send the readers of a replaced segment to the owned one, and unlock it."""
        previous.words.ints[H_RETIRED] = 1
        for lock in self._locks[:-1]:
            lock.release()
        del self._locks[:-1]

    def _check_named(self) -> None:
        if identity_at(self.where.segment) != self.mapping.identity:
            raise _feed_lost(self.where.segment)

    def publish(self) -> None:
        """Make a new segment visible to readers, after its bars were copied into it.

        Raises FeedLostError if the previous segment was replaced by another one.
        """
        fence()  # release: pairs with the acquire in `read_geometry`
        self.mapping.words.ints[H_READY] = READY
        if self.previous is None or self._path == self.where.segment:
            return
        if identity_at(self.where.segment) not in (None, self.previous.identity):
            raise _feed_lost(self.where.segment)
        self._path.rename(self.where.segment)
        self._path = self.where.segment
        self._retire(self.previous)

    def share_locks(self) -> FeedLocks:
        """Return the locks by descriptors of their own, for the next writer."""
        return FeedLocks(self._lock_file, self._locks[-1]).share()

    def _lock_present_segment(self) -> None:
        handed, self._handed = self._handed, None
        present = identity_at(self.where.segment)
        if handed is not None and handed.identity == present and handed.is_held:
            self._locks.append(handed)
            return
        if handed is not None:  # of a segment that another one has replaced
            handed.release()
        self._lock_segment(self.where.segment)

    def _lock_segment(self, path: Path) -> None:
        self._locks.append(lock_segment(self.where, path))

    def check_owned(self) -> None:
        """Raise FeedLostError if a file or a lock of this owner is no longer its own.

        A file was removed, replaced or truncated; a descriptor was closed or reused; or
        another process has the lock. The right to write has then ended. Any access past
        the end of a truncated segment raises SIGBUS.
        """
        if self._pid != os.getpid():  # this kernel may not wipe the word
            self.end()
        with self._replacing:  # not in the middle of `enlarge`
            loss = self._find_loss() if self.word[0] else None
        if loss is not None:
            self.end(str(loss))
            raise loss
        self.check(f"feed {self.where.name!r}")

    def _find_loss(self) -> FeedLostError | None:
        segment, size = self.mapping.identity, self.mapping.geometry.size
        owned = (
            (self._path, self._locks[-1], segment, size),
            (self.where.lock, self._lock_file, self._lock_file.identity, 0),
        )
        for path, lock, identity, least in owned:
            status = _lstat(path)
            if status is None or identity_of(status) != identity:
                return _feed_lost(path)
            if status.st_size < least:
                return FeedLostError(
                    f"{path} was truncated from {least} to {status.st_size} bytes;"
                    " restart the feeder"
                )
            if not lock.is_held:
                return _lock_lost(path, lock.fileno())
        return None

    def holds_segment(self) -> bool:
        """Return True if the segment is whole, locked by this process, and its own.

        This may be so after the right has ended: the segment's name was removed, but
        readers have it mapped.
        """
        if self._pid != os.getpid() or not self._is_whole():
            return False
        return self.mapping.words.ints[H_WRITER_EPOCH] == self._epoch

    def _is_whole(self) -> bool:
        lock, size = self._locks[-1], self.mapping.geometry.size
        return lock.is_held and os.fstat(lock.fileno()).st_size >= size

    def release(self, unlink: bool) -> None:
        """Release ownership. With `unlink`, retire and remove the segment first.

        A segment that another writer took, or whose lock was lost, is left alone.
        Idempotent.
        """
        if unlink and self._may_remove():
            if self.holds_segment():
                self.mapping.words.ints[H_RETIRED] = 1
            self._remove()
        self.end()
        self._unlock()

    def _may_remove(self) -> bool:
        locks = self._locks[-1], self._lock_file
        return (
            self._pid == os.getpid()
            and all(lock.is_held for lock in locks)
            and (self.holds_segment() or not self._is_whole())
            and identity_at(self._path) == self.mapping.identity
        )

    def disown(self) -> None:
        """Own nothing from now on, in a forked child, whose locks are closed."""
        self.end()

    def _remove(self) -> None:
        self._path.unlink(missing_ok=True)
        self._unlock_segments()

    def _unlock(self) -> None:
        self._unlock_segments()
        self._lock_file.release()

    def _unlock_segments(self) -> None:
        for lock in self._locks:
            lock.release()
        if self._handed is not None:
            self._handed.release()


def _own_group(group: str) -> int:
    """Return a group's number. Raise BadArgumentError if it is not this process's."""
    number = group_number(group)
    if not may_give_to(number):
        raise BadArgumentError(
            f"group is {group!r}, and user {os.geteuid()} is no member of it; the"
            " groups of a feeder must hold the one that reads"
        )
    return number


_owners: ForkRegistry[SegmentOwner] = ForkRegistry()


def _private_page() -> mmap.mmap:
    # Any fork wipes it, also one by C code, which runs no handler of Python's.
    page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # Linux before 4.14: `check_owned` compares the pid
        page.madvise(_MADV_WIPEONFORK)
    return page


def _remove_unfinished(where: Place) -> None:
    # An owner that was killed while it recreated the segment has left it.
    unfinished = where._replace(segment=where.successor)
    try:
        fd = open_checked(unfinished, os.O_RDWR)
    except FeedNotFoundError:
        return
    try:
        read_ready_word(unfinished, fd)  # else it is not a segment
    finally:
        os.close(fd)
    unfinished.segment.unlink(missing_ok=True)


def _reserve_used(fd: int, mapping: Mapping) -> None:
    # Loading from a page that does not exist allocates it, and raises SIGBUS if
    # /dev/shm is full. A copied file may lack pages.
    words, geometry, _ = mapping
    reserve(fd, 0, geometry.slot_word(0) * WORD)
    taken = max(0, min(slots_taken(words, geometry), geometry.slots))
    reserve(fd, 0, geometry.slot_word(taken) * WORD)


def _is_reusable(mapping: Mapping, geometry: Geometry) -> bool:
    words, found, _ = mapping
    usable, damage = inspect_segment(words, found)
    if damage:
        more = "; .." if damage[_MOST_LISTED:] else ""
        log.warning(
            "%s is damaged; recreating it with the bars of %s: %s",
            words.name,
            counted(len(usable), "stream"),
            "; ".join(damage[:_MOST_LISTED]) + more,
        )
    return found == geometry and not damage


def _feed_lost(path: Path) -> FeedLostError:
    return FeedLostError(
        f"{path} of this feeder (pid {os.getpid()}) was removed or replaced; restart"
        " the feeder"
    )


def _lock_lost(path: Path, fd: int) -> FeedLostError:
    return FeedLostError(
        f"{path} is not locked by this feeder (pid {os.getpid()}) any more: descriptor"
        f" {fd} was closed or reused by other code of this process, or another process"
        " has the lock; restart the feeder"
    )


def _lstat(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except OSError:  # also if its directory was replaced by a file
        return None
