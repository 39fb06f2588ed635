"""A follower's side of a feed in Redis: the state now, then the log of flushes.

A follower holds its place by the name of an entry, and by the epoch and sequence that
the entry tells. Redis's own names show no gap: a log that was trimmed, lost or rolled
back looks like one that continues. So each entry must be the next one, and a silence is
compared with the leader's place.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from shmfeed.relay.blobs import (
    ROW_BYTES,
    VERSION,
    State,
    other_version,
    pack_streams,
    unpack_answer,
    unpack_catalog,
    unpack_flush,
    unpack_head,
    unpack_state,
)
from shmfeed.relay.engine import (
    REQUEST_SECONDS,
    Answer,
    EngineAwayError,
    EngineRefusedError,
    Entry,
    Joined,
    MustJoinError,
    Position,
    Request,
)
from shmfeed.relay.feed_state import aged
from shmfeed.relay.flush import NEVER, Catalog, Flush, Head, RowsOfStreams
from shmfeed.relay.redis_feed import RedisFeed
from shmfeed.relay.rows import to_block, unpack_ring
from shmfeed.relay.script import JOIN, MISS, PLACE, REQUEST
from shmfeed.wire.boot_clock import boot_seconds

BLOCK_SECONDS = 1.0  # of one wait in Redis; below the limit of an answer
ENTRIES = 64  # of one answer
READ_BYTES = 4 << 20  # of rings in one answer
_MS = 1000


class FollowerSide(RedisFeed):
    """The calls of a follower."""

    def join(self) -> Joined:
        """Return the state of the feed now. Raises EngineAwayError if it has none."""
        self._open()
        keys = self._keys
        names = (keys.fence, keys.head, keys.catalog, keys.state, keys.live)
        _, held, *blobs = self._run_timed(JOIN, names)
        incarnation, entry, epoch, sequence = self._check_fence(held)
        for key, blob in zip(names[1:4], blobs, strict=True):
            if blob is None:
                raise EngineAwayError(self._miss(key))
        head, head_made = unpack_head(blobs[0], keys.head)
        catalog = unpack_catalog(blobs[1], keys.catalog)
        state = unpack_state(blobs[2], keys.state)
        self._check_run(state)
        age = 0 if head_made > state.made else state.head_ms
        return Joined(
            Position(f"{incarnation} {self._clock_of}", entry, epoch, sequence),
            _aged_head(head, age),
            catalog,
            {number: aged(marks, ms) for number, (ms, marks) in state.marks.items()},
            state.forming,
            self._delay(state.made),
        )

    def _check_fence(self, held: Sequence[bytes | None]) -> tuple[str, str, int, int]:
        """Return incarnation, entry, epoch and sequence of the state."""
        version, *rest = held
        server = self._connection.target
        if version is not None and version != b"%d" % VERSION:
            raise other_version(self._keys.fence, version.decode("utf-8", "replace"))
        words = [word.decode() for word in rest if word is not None]
        if version is None or len(words) < len(rest):
            raise EngineAwayError(
                f"no leader has published feed {self.name} to Redis {server} yet"
            )
        return words[0], words[1], int(words[2]), int(words[3])

    def _check_run(self, state: State) -> None:
        if state.run_id and state.run_id != self._clock_of:
            raise EngineAwayError(
                f"Redis {self._connection.target} was started again or has failed over,"
                f" and no leader has published feed {self.name} since"
            )

    def _miss(self, key: str) -> str:
        """Tell the leader that a key has vanished; return the words for it."""
        self._run(MISS, (self._keys.fence,), key)
        return (
            f"key {key} of Redis {self._connection.target} has vanished: it was"
            " deleted, or evicted where maxmemory-policy is allkeys-*; the leader will"
            " write it again"
        )

    def _delay(self, made: float) -> float:
        """Return the seconds since then at most, once nothing is left to be done."""
        return max(0.0, self._clock.latest(boot_seconds()) - made)

    def rings(self, catalog: Catalog) -> Iterator[RowsOfStreams]:
        """Yield the closed rows of all streams of a catalog, in pieces.

        Raises:
            MustJoinError: A ring has vanished.
        """
        at_once = max(1, READ_BYTES // (ROW_BYTES * max(1, catalog.history)))
        for first in range(0, len(catalog.streams), at_once):
            yield self._rings_from(catalog, first, at_once)

    def _rings_from(self, catalog: Catalog, first: int, count: int) -> RowsOfStreams:
        streams = catalog.streams[first : first + count]
        keys = [self._keys.ring(stream) for stream in streams]
        found = []
        for key, (_, timeframe), blob in zip(
            keys, streams, self._call("MGET", *keys), strict=True
        ):
            if blob is None:
                raise MustJoinError(self._miss(key))
            found.append(unpack_ring(blob, timeframe, key))
        return to_block(found, first)

    def follow(self, position: Position, timeout: float) -> list[Entry]:
        """Return the entries after a position, waiting for the first up to a time.

        Raises MustJoinError.
        """
        deadline = boot_seconds() + timeout
        while True:
            self._open()
            if position.incarnation.partition(" ")[2] != self._clock_of:
                raise MustJoinError("Redis was started again or has failed over")
            self._measure_now_and_then()
            wait = min(BLOCK_SECONDS, deadline - boot_seconds())
            found = self._read(position, wait)
            if found:
                return self._entries(position, found)
            self._check_place(position)
            if boot_seconds() >= deadline:
                return []

    def _read(self, position: Position, wait: float) -> list[Any]:
        """Return the next entries of the log as Redis tells them."""
        block = ("BLOCK", round(wait * _MS)) if round(wait * _MS) > 0 else ()
        place = ("STREAMS", self._keys.live, position.entry)
        found = self._call("XREAD", "COUNT", ENTRIES, *block, *place)
        return found[0][1] if found else []

    def _entries(self, position: Position, found: Sequence[Any]) -> list[Entry]:
        """Return the entries up to one that does not follow the one before it."""
        key = self._keys.live
        entries: list[tuple[Position, Flush, float]] = []
        for name, fields in found:
            parts = dict(zip(fields[::2], fields[1::2], strict=True)) if fields else {}
            try:
                epoch, sequence = int(parts[b"e"]), int(parts[b"s"])
                must_join, blob = parts[b"j"] == b"1", parts[b"f"]
            except (KeyError, ValueError):
                raise EngineRefusedError(
                    f"key {key} of the engine has an entry that shmfeed did not write:"
                    " delete it, or publish under another name"
                ) from None
            reason = why_join(position, epoch, sequence) or (
                _BY_RINGS if must_join else ""
            )
            if reason and entries:
                break
            if reason:
                raise MustJoinError(reason)
            flush, made = unpack_flush(blob, key)
            position = position._replace(
                entry=name.decode(), epoch=epoch, sequence=sequence
            )
            entries.append((position, flush, made))
        # Reading many large ones takes a while, which counts.
        return [Entry(at, flush, self._delay(made)) for at, flush, made in entries]

    def _check_place(self, position: Position) -> None:
        """Raise MustJoinError if the leader is elsewhere, though no entry came."""
        _, held = self._run_timed(PLACE, (self._keys.fence,))
        incarnation, epoch, sequence = held
        if incarnation is None:
            raise MustJoinError("Redis was emptied")
        if incarnation.decode() != position.incarnation.partition(" ")[0]:
            raise MustJoinError("Redis was emptied, and a leader has written again")
        place = int(epoch or 0), int(sequence or 0)
        if place != (position.epoch, position.sequence) and place[1]:
            self._check_log(position, place)

    def _check_log(self, position: Position, place: tuple[int, int]) -> None:
        """Raise MustJoinError unless the log has the entries up to the leader's."""
        if not self._read(position, 0):
            raise MustJoinError(
                f"the log has no entry after flush {position.sequence} of epoch"
                f" {position.epoch}, and the leader is at {place[1]} of {place[0]}"
            )

    def request(self, request: Request) -> Answer | None:
        """Tell which streams a follower wants, for REQUEST_SECONDS; return the answer.

        None: the leader has not answered this request yet.
        """
        keys = self._keys
        streams = tuple(sorted(request.streams))
        found = self._run(
            REQUEST,
            (keys.fence, keys.wants, keys.answers),
            round(REQUEST_SECONDS * _MS),
            request.follower,
            pack_streams(streams),
        )
        if len(found) == 1:
            return None
        asked, answer = unpack_answer(found[1], keys.answers)
        return answer if tuple(sorted(asked)) == streams else None


_BY_RINGS = "the leader wrote rings as a whole"


def why_join(position: Position, epoch: int, sequence: int) -> str:
    """Return why an entry does not follow a position, "" if it does."""
    if epoch > position.epoch:
        return f"a leader of epoch {epoch} has come after {position.epoch}"
    if epoch < position.epoch:
        return f"an entry of epoch {epoch} came after {position.epoch}"
    if sequence <= position.sequence:
        return f"flush {sequence} came after {position.sequence}: the log was set back"
    missed = sequence - position.sequence - 1
    return f"the log was trimmed: {missed} flushes were missed" if missed else ""


def _aged_head(head: Head, ms: int) -> Head:
    age = head.message_age
    return head if age == NEVER else head._replace(message_age=age + ms)
