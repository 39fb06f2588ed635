"""The leader's side of a feed in Redis: leadership, flushes, requests.

See `script` for what each step checks, and for their order. Rings are written in steps
of PIECE_BYTES, so that neither a whole flush of many streams holds the server up, nor a
slow link the leadership. Followers that read a ring meanwhile get rows that are newer
than their place in the log.
"""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress

from shmfeed.bar import StreamKey
from shmfeed.errors import BadArgumentError
from shmfeed.relay.blobs import (
    CATALOG,
    HEAD,
    KIND_BYTES,
    ROW_BYTES,
    STATE,
    VERSION,
    header,
    pack_answer,
    pack_catalog,
    pack_flush,
    pack_head,
    pack_state,
    unpack_catalog,
    unpack_head,
    unpack_streams,
)
from shmfeed.relay.engine import (
    LEADER_SECONDS,
    MEMBER_SECONDS,
    NO_LEADER,
    REQUEST_SECONDS,
    Answer,
    EngineAwayError,
    EngineRefusedError,
    FencedError,
    Leadership,
    Member,
    Request,
)
from shmfeed.relay.feed_state import FeedState
from shmfeed.relay.flush import Flush, Head
from shmfeed.relay.redis_connection import RedisTarget
from shmfeed.relay.redis_errors import ConnectionDroppedError
from shmfeed.relay.redis_feed import RedisFeed
from shmfeed.relay.rows import RingWrite, RingWriter, ring_header
from shmfeed.relay.script import (
    ANSWER,
    FLUSH,
    FORGET,
    HAD,
    LEAD,
    RENEW,
    REQUESTS,
    RESIGN,
    RINGS,
    STAND_BY,
    TAKEN,
)
from shmfeed.wire.boot_clock import boot_seconds

LOG_ENTRIES = 1000  # of the log, fewer where they would take more than LOG_BYTES
LOG_BYTES = 64 << 20
_LEAST_ENTRIES = 64
_MEAN_OVER = 64  # entries whose mean size counts
PIECE_BYTES = 1 << 20  # of ring writes in one step
ENTRY_BYTES = 1 << 20  # of the log; followers read the rings after a larger flush
STATE_SECONDS = 0.4
_LONGEST_STRING = 512 << 20  # what Redis holds under a key
_MS = 1000
_NOT_LEADING = "this publisher does not lead: it has no epoch"


class LeaderSide(RedisFeed):
    """The calls of a publisher."""

    def __init__(self, name: str, target: RedisTarget) -> None:
        super().__init__(name, target)
        self._token = secrets.token_hex(8)  # another process may have our host:pid
        self._title = ""
        self._epoch = 0
        self._sequence = 0
        self._is_synced = False
        self._streams: tuple[StreamKey, ...] = ()
        self._ring_names: list[str] = []
        self._rings = RingWriter((), 1)
        self._state = FeedState()
        self._state_written = 0.0
        self._entry_bytes = 0.0  # of an entry in the mean
        self._asked: dict[str, tuple[StreamKey, ...]] = {}

    def lead(self, member: str, since: int) -> int | None:
        """Become the leader and return the new epoch; None if another one leads."""
        title = f"{self._token} {since} {member}"
        keys = self._keys
        answer = self._run(
            LEAD,
            (keys.fence, keys.leader, keys.live, keys.head, keys.catalog, keys.state),
            VERSION,
            secrets.token_hex(8),
            round(LEADER_SECONDS * _MS),
            title,
            *(header(kind, 0)[:KIND_BYTES] for kind in (HEAD, CATALOG, STATE)),
        )
        if answer[0] == TAKEN:
            return None
        self._title, self._epoch = title, int(answer[1])
        self._sequence, self._is_synced = 0, False
        return self._epoch

    def renew(self) -> None:
        """Stay the leader for LEADER_SECONDS more. Raises FencedError."""
        keys = (self._keys.fence, self._keys.leader)
        life = round(LEADER_SECONDS * _MS)
        self._run_timed(RENEW, keys, self._led(), life, self._title)

    def resign(self) -> None:
        """Stop leading, so that another can at once."""
        epoch, self._epoch = self._epoch, 0
        if epoch:
            self._run(RESIGN, (self._keys.leader,), epoch, self._title)

    def leadership(self) -> Leadership:
        """Return who leads now."""
        found = self._call("GET", self._keys.leader)
        if found is None:
            return NO_LEADER
        words = found.decode("utf-8", "replace").split(" ", 3)
        try:
            epoch, _, since, leader = words
            return Leadership(leader, int(epoch), int(since))
        except ValueError:
            raise self._describe_foreign(self._keys.leader, "string", found) from None

    def head(self) -> Head | None:
        """Return the head that any leader wrote last, None without one."""
        blob = self._call("GET", self._keys.head)
        return None if blob is None else unpack_head(blob, self._keys.head)[0]

    def stand_by(self, member: Member) -> list[Member]:
        """Tell that a publisher lives, for MEMBER_SECONDS; return all that do."""
        life = round(MEMBER_SECONDS * _MS)
        value = f"{member.rank} {member.is_connected:d} {member.name}"
        keys = (self._keys.members,)
        found = self._run(STAND_BY, keys, life, self._token, value)[1:]
        members = (_parse_member(one.decode("utf-8", "replace")) for one in found)
        return [one for one in members if one is not None]

    def requests(self) -> list[Request]:
        """Return the requests of followers that live."""
        keys = self._keys
        _, *found = self._run(REQUESTS, (keys.wants, keys.answers))
        self._asked = {}
        for follower, blob in zip(found[::2], found[1::2], strict=True):
            with suppress(EngineRefusedError):  # of another version, or not ours
                streams = unpack_streams(blob, keys.wants)
                self._asked[follower.decode("utf-8", "replace")] = streams
        return [Request(*one) for one in self._asked.items()]

    def answer(self, follower: str, answer: Answer) -> None:
        """Answer the request of a follower that `requests` has returned last."""
        streams = self._asked.get(follower, answer.streams)
        keys = (self._keys.fence, self._keys.wants, self._keys.answers)
        life = round(REQUEST_SECONDS * _MS)
        blob = pack_answer(streams, answer)
        self._run(ANSWER, keys, self._led(), life, follower, blob)

    def flush(self, flush: Flush) -> None:
        """Write a flush, which counts in one step.

        Raises FencedError, and has then written nothing that counts. After any other
        error the next flush must be a whole one.
        """
        self._led()
        now = flush.read_at or boot_seconds()
        self._check(flush)
        self._is_synced = False
        self._open()
        gone = self._streams_gone(flush)
        whole = self._take_catalog(flush)
        self._state.take(flush, now)
        self._sequence += 1
        self._write(flush._replace(whole=whole), now)
        self._is_synced = True
        self._forget(gone)

    def _write(self, flush: Flush, now: float) -> None:
        made = self._clock.earliest(now)
        writes = self._rings.writes(*flush.closed, flush.whole)
        size = len(flush.closed.numbers) * ROW_BYTES
        must_join = flush.is_whole or size > ENTRY_BYTES
        if must_join or flush.whole:
            self._write_rings(writes)
            self._commit(flush, made, must_join, self._pack_state(now, made))
            return
        is_due = now - self._state_written >= STATE_SECONDS
        state = self._pack_state(now, made) if is_due else b""
        entry = self._commit(flush, made, False, b"" if size else state)
        if size:
            with suppress(FencedError):  # it counted; the new leader writes all rings
                self._write_rings(writes, entry, state if entry else b"")

    def _pack_state(self, now: float, made: float) -> bytes:
        self._state_written = now
        return pack_state(self._state.summary(now, made, self._clock_of))

    def _led(self) -> int:
        if not self._epoch:
            raise FencedError(_NOT_LEADING)
        return self._epoch

    def _check(self, flush: Flush) -> None:
        """Raise BadArgumentError for a flush that cannot follow the one before."""
        catalog = flush.catalog
        if flush.is_whole:
            if catalog is None or flush.head is None:
                raise BadArgumentError("a whole flush must have a catalog and a head")
            if catalog.history * ROW_BYTES >= _LONGEST_STRING:
                raise EngineRefusedError(
                    f"history={catalog.history} is more than a key of Redis can hold;"
                    f" it takes less than {_LONGEST_STRING // ROW_BYTES} rows"
                )
        elif not self._is_synced:
            raise BadArgumentError(
                "the first flush of an epoch, and the one after an error, must be whole"
            )
        elif catalog is not None and (
            catalog.streams[: len(self._streams)] != self._streams
            or catalog.history != self._rings.capacity
        ):
            raise BadArgumentError(
                "a flush must be whole if a stream's number or the history changes"
            )

    def _take_catalog(self, flush: Flush) -> tuple[int, ...]:
        """Return the streams whose rings are written whole, new ones among them."""
        catalog = flush.catalog
        if catalog is None:
            return flush.whole
        known, self._streams = len(self._streams), catalog.streams
        self._ring_names = [self._keys.ring(stream) for stream in catalog.streams]
        if flush.is_whole:
            self._rings = RingWriter(catalog.streams, catalog.history)
            return tuple(range(len(catalog.streams)))
        self._rings.extend(catalog.streams)
        new = range(known, len(catalog.streams))
        return tuple(sorted({*flush.whole, *new}))

    def _streams_gone(self, flush: Flush) -> set[StreamKey]:
        """Return the streams of the last leader that a whole flush has no longer."""
        if not flush.is_whole or flush.catalog is None:
            return set()
        blob = self._call("GET", self._keys.catalog)
        if blob is None:
            return set()
        with suppress(EngineRefusedError):  # a damaged one is about to be replaced
            before = unpack_catalog(blob, self._keys.catalog)
            return {*before.streams} - {*flush.catalog.streams}
        return set()

    def _write_rings(
        self, writes: Iterator[RingWrite], entry: bytes = b"", state: bytes = b""
    ) -> None:
        """Write rings, and with the last of them the state as of an entry."""
        piece: list[RingWrite] = []
        size = 0
        for write in writes:
            if piece and size + len(write.data) > PIECE_BYTES:
                self._write_piece(piece)
                piece, size = [], 0
            piece.append(write)
            size += len(write.data)
        if piece:
            self._write_piece(piece, entry, state)

    def _write_piece(
        self, piece: Sequence[RingWrite], entry: bytes = b"", state: bytes = b""
    ) -> None:
        keys = self._keys
        rings = (self._ring_names[one.number] for one in piece)
        answer = self._run(
            RINGS,
            (keys.fence, keys.leader, keys.state, *rings),
            self._epoch,
            self._sequence,
            round(LEADER_SECONDS * _MS),
            self._title,
            self._ring_header(),
            entry,
            state,
            *(part for one in piece for part in (one.offset, one.data)),
        )
        self._check_had(answer)

    def _commit(
        self, flush: Flush, made: float, must_join: bool, state: bytes
    ) -> bytes:
        """Make the flush count; return its entry, b"" if that is not known."""
        keys = self._keys
        names = (keys.fence, keys.live, keys.state, keys.head, keys.catalog)
        packed = b"" if must_join else pack_flush(flush, made)
        arguments = (
            self._epoch,
            self._sequence,
            int(flush.is_whole),
            self._log_length(len(packed)),
            int(must_join),
            packed,
            state,
            pack_head(flush.head, made) if flush.head else b"",
            pack_catalog(flush.catalog) if flush.catalog else b"",
        )
        try:
            answer = self._run_timed(FLUSH, names, *arguments)
        except ConnectionDroppedError:
            before = self._clock_of
            self._open()
            if not before or self._clock_of != before:
                raise  # of another server, or of one that does not tell
            answer = self._run_timed(FLUSH, names, *arguments)
            if answer[0] == HAD:
                return b""  # the step was done, and its answer lost
        self._check_had(answer)
        self._check_node(flush)
        return bytes(answer[1])

    def _check_node(self, flush: Flush) -> None:
        """Raise EngineAwayError if another node of a cluster took a flush.

        It may lack rings that the one before has written.
        """
        if not flush.is_whole and self._connection.run_id != self._clock_of:
            raise EngineAwayError(
                f"Redis {self._connection.target} has moved the keys of this feed to"
                " another node: all is written again"
            )

    def _log_length(self, size: int) -> int:
        """Return how many entries the log keeps after one of this size."""
        self._entry_bytes += (size - self._entry_bytes) / _MEAN_OVER
        fitting = int(LOG_BYTES / max(1.0, self._entry_bytes))
        return max(_LEAST_ENTRIES, min(LOG_ENTRIES, fitting))

    def _check_had(self, answer: Sequence[object]) -> None:
        if answer[0] == HAD:
            raise EngineAwayError(
                f"Redis {self._connection.target} has a later flush than number"
                f" {self._sequence}"
            )

    def _forget(self, gone: set[StreamKey]) -> None:
        if gone:
            rings = [self._keys.ring(stream) for stream in sorted(gone)]
            prefix = self._ring_header()[:KIND_BYTES]
            self._run(FORGET, (self._keys.fence, *rings), self._epoch, prefix)

    def _ring_header(self) -> bytes:
        return ring_header(self._rings.capacity)


def _parse_member(text: str) -> Member | None:
    """Return a member, None for one of another version."""
    try:
        rank, is_connected, name = text.split(" ", 2)
        return Member(name, is_connected == "1", int(rank))
    except ValueError:
        return None
