"""The intake of a follower: a leader's news, written to the rings as they are.

The leader's ledger has decided what is a row. So this intake closes, doubts and
repairs nothing: it has neither a venue's clock nor messages, and its ledgers only know
the rows. Health is told by the leader's marks, whose ages become moments of this host's
clock. The delay of the link is in them, so that no bar looks fresher than it is. Rows
alone update no stream: a leader may have corrected or filled in old ones.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from shmfeed.bar import LAST_TIME, StreamKey
from shmfeed.errors import BadArgumentError
from shmfeed.feeder.catch_up import Carried, CatchUp
from shmfeed.feeder.intake import Intake
from shmfeed.feeder.relayed_rows import Found, RelayedRows
from shmfeed.feeder.row_events import DueBars
from shmfeed.feeder.throttled import ThrottledWarning
from shmfeed.history.interface import Block
from shmfeed.layout import NO_BAR, TIME_LIMIT, UNCOMPARED
from shmfeed.marks import StreamMoments
from shmfeed.memory.words import boot_ns
from shmfeed.relay.flush import NEVER, Head, RowsOfStreams, StreamMarks
from shmfeed.relay.news import LeaderNews
from shmfeed.relay_status import RELAY
from shmfeed.wire.events import Delivery, Received

RELAY_SECONDS = 0.5  # the status of the link is published that often
_MS = 1_000_000
_TICK_SECONDS = 0.1
_SILENCE = StreamMarks._fields.index("silence")


class RelayedIntake(Intake):
    """The writer of a leader's news into the rings. Only the main loop uses it."""

    def __init__(
        self,
        *given: Any,
        relay: Callable[[], dict[str, Any]],
        keeps_silence: bool,
        **options: Any,
    ) -> None:
        """Write to the streams of a writer, as `Intake` does.

        `relay` returns the status of the link, for readers. With `keeps_silence` the
        limits of silence are this feeder's own.
        """
        super().__init__(*given, **options)
        self._relayed = RelayedRows(self._writer, self._rows)
        self._relay = relay
        self._keeps_silence = keeps_silence
        self._refused_rows = ThrottledWarning("rows of the leader are refused")
        self._next_relay = 0.0
        self._is_new = True  # it has been told no streams yet
        self._covered: set[StreamKey] = set()
        # The newest marks of all streams of the leader, of which more may be carried.
        self._told: dict[StreamKey, tuple[StreamMarks, StreamMoments]] = {}
        self._shown: dict[StreamKey, StreamMarks] = {}

    def take_news(self, news: Delivery) -> None:
        """Write a leader's news; wake the readers once."""
        if not isinstance(news, LeaderNews):
            return
        now = self._now()
        self._writer.count("messages")
        streams = list(map(self._streams.get, news.streams))
        closed, forming = _sound(news.closed), _sound(news.forming, NO_BAR)
        if closed is not news.closed or forming is not news.forming:
            self._say(self._refused_rows.add("times out of range", now))
        self._take_rows(news, closed, streams, now)
        self._relayed.update_forming(streams, forming)
        self._take_marks(news, streams)
        message_at = None if news.head is None else self._take_head(news, news.head)
        self._writer.mark_relayed(news.heard_at, message_at)
        self._finish(now)

    def set_streams(self, streams: Sequence[StreamKey]) -> None:
        """Carry exactly these streams from now on; those carried before continue."""
        for key in self._streams.keys() - set(streams):
            self._relayed.forget(key)
            self._shown.pop(key, None)
            self._covered.discard(key)
        known, is_first = set(self._streams), self._is_new
        self._is_new = False
        super().set_streams(streams)
        for key, stream in self._streams.items():
            if key not in self._covered:
                stream.connected_at = LAST_TIME  # rows until then have closed before
        if not is_first:  # else as the writer found it: it may have been handed over
            new = self._streams.keys() - known - self._covered
            self._writer.mark_connection(new, False)

    def connected(self, streams: Iterable[StreamKey] | None = None) -> None:
        """Show the leader's marks of these streams again: the link brings them."""
        now = self._now()
        for stream in self._selected(streams):
            key = stream.key
            self._covered.add(key)
            if stream.connected_at == LAST_TIME:
                stream.connected_at = time.time_ns() // _MS
            stream.heard = now
            if key in self._told:
                self._show(key)

    def disconnected(
        self,
        streams: Iterable[StreamKey] | None = None,
        heard: float = -math.inf,  # noqa: ARG002 # of a venue's connection
    ) -> None:
        """Show that the link does not bring these streams; their rows stay as told."""
        for stream in self._selected(streams):
            self._covered.discard(stream.key)
            self._shown.pop(stream.key, None)  # it may be refused meanwhile
            stream.connected_at = LAST_TIME

    def connection_lost(
        self,
        connection: int,  # noqa: ARG002 # as above
        uncovered: Iterable[StreamKey] = (),
    ) -> None:
        """Record which streams the link does not bring any more."""
        self.disconnected(uncovered)

    def drop_rows(self, key: StreamKey, first_kept: int | None) -> int:
        """Drop a stream's rows, as `RowPublisher` does; its marks are shown again."""
        self._relayed.forget(key)
        self._shown.pop(key, None)
        return super().drop_rows(key, first_kept)

    def stalled(self) -> None:
        """Do nothing: no clock closes bars here."""

    def tick(self, now: float | None = None) -> None:
        """Publish counts and the status of the link, ten times a second at most."""
        now = self._now() if now is None else now
        if now < self._next_tick:
            return
        self._next_tick = now + _TICK_SECONDS
        self._relayed.tick(self._streams, now)
        if now >= self._next_relay:
            self._next_relay = now + RELAY_SECONDS
            self._writer.set_text(RELAY, self._relay())
            self._rows.found.clear()  # the leader's feeder repairs
            self.missing.log(now)
            self._count_gaps()
        self._finish(now)

    def silences(self) -> dict[StreamKey, float]:
        """Return none: the leader's feeder asks for its mute streams."""
        return {}

    def due(self, now: float) -> list[DueBars]:  # noqa: ARG002 # as the leader's
        """Return none: the leader's feeder asks REST."""
        return []

    def catch_up(
        self,
        carried: Carried,  # noqa: ARG002 # of a venue's messages
        held: Iterable[Received],  # noqa: ARG002 # as above
    ) -> CatchUp:
        """Take nothing of the former feeder's ledgers: the leader's rows follow."""
        return super().catch_up({}, ())

    def _take_rows(
        self, news: LeaderNews, closed: RowsOfStreams, streams: Found, now: float
    ) -> None:
        """Append the newer rows of a flush, and make the others equal."""
        left = set(news.whole)
        left |= self._relayed.append(streams, closed, left, now)
        if not left:
            return
        blocks = dict(_by_stream(closed))
        nothing = closed.block[:, :0]
        whole = set(news.whole)
        for number in left:
            stream = streams[number] if number < len(streams) else None
            if stream is not None:
                block, is_whole = blocks.get(number, nothing), number in whole
                try:
                    self._relayed.put(stream, block, is_whole, news.epoch, now)
                except BadArgumentError as error:
                    self._say(self._refused_rows.add(str(error), now))

    def _take_marks(self, news: LeaderNews, streams: Found) -> None:
        """Take marks, and show those of all streams that the news are about."""
        known = len(streams)
        for number, marks in news.marks.items():
            if number < known:
                moments = _moments(marks, news.made_at)
                self._told[news.streams[number]] = marks, moments
        changed = {*news.closed.numbers.tolist(), *news.forming.numbers.tolist()}
        changed.update(news.marks, news.whole)
        for number in changed:
            stream = streams[number] if number < known else None
            if stream is not None:
                self._show(stream.key)

    def _show(self, key: StreamKey) -> None:
        """Show the leader's marks; reason, limit and holes only if they are others.

        A stream that the link does not bring stays away, whatever the leader says. One
        whose marks are still to come has no update yet.
        """
        told = self._told.get(key)
        if told is None:
            self._writer.copy_updates([key], 0)
            return
        marks, moments = told
        writer, is_covered = self._writer, key in self._covered
        writer.copy_moments(key, moments, marks.recovering, with_away=is_covered)
        shown = self._shown.get(key)
        if shown is not None and marks[_SILENCE:] == shown[_SILENCE:]:
            return
        self._shown[key] = marks
        writer.explain(key, marks.reason, marks.why)
        writer.set_holes(key, marks.holes)
        if not self._keeps_silence:
            writer.set_silence(key, marks.silence / 1000 if marks.silence else None)

    def _count_gaps(self) -> None:
        """Count missing bars again: the oldest ones may have left the ring."""
        for key, stream in self._streams.items():
            if stream.gaps:
                self._rows.count_gaps(stream)
                if key in self._told:
                    self._show(key)

    def _take_head(self, news: LeaderNews, head: Head) -> int | None:
        """Take the clock from a head; return when the venue has sent data last."""
        offset = head.clock_offset
        if news.sent and offset is not None:
            # The leader's clock when the news was made, against this host's then.
            made = time.time_ns() - (boot_ns() - news.made_at)
            self._writer.set_clock_offset(offset + news.sent - made / _MS)
        elif offset is None:
            self._writer.set_clock_offset(None)
        if head.message_age == NEVER:
            return None
        return max(1, news.made_at - head.message_age * _MS)

    def _finish(self, now: float) -> None:
        self._say(self._rows.finish(now))


def _sound(rows: RowsOfStreams, but: int | None = None) -> RowsOfStreams:
    """Return the rows whose times a ring can hold, or that open at `but`.

    The same object if all are.
    """
    opens, closes = rows.block[:2].view(np.int64)
    sound = (opens >= 0) & (opens < closes) & (closes < TIME_LIMIT)
    if but is not None:
        sound |= opens == but
    if sound.all():
        return rows
    block = np.ascontiguousarray(rows.block[:, sound])
    return RowsOfStreams(rows.numbers[sound], block)


def _by_stream(rows: RowsOfStreams) -> Iterator[tuple[int, Block]]:
    """Return each stream's number and its rows."""
    numbers, block = rows
    if not len(numbers):
        return
    ends = np.flatnonzero(numbers[1:] != numbers[:-1]) + 1
    starts = [0, *ends.tolist()]
    for start, end in zip(starts, [*starts[1:], len(numbers)], strict=True):
        yield int(numbers[start]), np.ascontiguousarray(block[:, start:end])


def _moments(marks: StreamMarks, made_at: int) -> StreamMoments:
    """Return the moments of marks on this host, which are at least as old."""
    _, since, updated, away, back, compared, *_ = marks
    since, updated, away, back, compared = [
        0 if age == NEVER else max(UNCOMPARED + 1, made_at - age * _MS)
        for age in (since, updated, away, back, compared)
    ]
    compared = UNCOMPARED if marks.is_uncompared else compared
    if not marks.subscribed and not away:
        away = since or made_at  # no connection carries it
    return StreamMoments(since, updated, away, back, compared)
