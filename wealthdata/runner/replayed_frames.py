"""A recording of frames, played into a feed by the feeder's own parts.

The frames of all recorded connections are played in the order in which they were sent,
with the start and the end of each connection and the answers of REST, each at its
time.
"""

import math
from collections.abc import Iterator
from urllib.parse import urlsplit

from shmfeed.bar import StreamKey
from shmfeed.codecs import get_codec
from shmfeed.codecs.interface import BarEvent, Codec
from shmfeed.errors import BadArgumentError
from shmfeed.feeder.playback import Playback
from shmfeed.history.recorded import RecordedAnswer
from shmfeed.identity import make_identity
from shmfeed.settings.model import Settings
from shmfeed.simulator.replay import (
    ConnectionClosed,
    Frame,
    Opened,
    RecordedEvent,
    RecordedSession,
    RestAnswer,
    Subscribed,
)
from wealthdata.runner.private_feed import Moment, PrivateFeed

_TICK_SECONDS = 0.05  # as the feeder's main loop, where no message comes
_MARKETS = (  # of Binance, by a part of a host's name or of a path of REST
    ("testnet", "testnet"),
    ("fstream", "usdm"),
    ("/fapi/", "usdm"),
    ("dstream", "coinm"),
    ("/dapi/", "coinm"),
)


class _Contents:
    """The contents of a recording, found by reading it once.

    Attributes:
        codec: The venue's codec.
        streams: The streams with bars, and those that were subscribed.
        symbols: The symbols with bars.
        begin, end: The times of the first and the last event, in seconds UTC.
        start: The venue's time at the start, ms UTC.
        has_history: True if REST gave bars.
    """

    def __init__(self, session: RecordedSession) -> None:
        self.has_history = False
        self.begin, self.end = math.inf, -math.inf
        self.start = 0
        market, probe = "", _probe_codec(session)
        found: dict[tuple[str, str], None] = {}
        bars: dict[tuple[str, str], None] = {}
        for event in session.events():
            self.begin, self.end = min(self.begin, event.time), event.time
            match event:
                case Frame(payload=payload):
                    events = probe.decode(payload)
                    bars |= {
                        (e.symbol, e.timeframe): None
                        for e in events
                        if type(e) is BarEvent
                    }
                case Subscribed(streams=streams, market_type=named):
                    found |= dict.fromkeys(streams)
                    market = named or market
                case RestAnswer(target=target, status=200) if "/klines" in target:
                    self.has_history = True
                    market = market or _binance_market(target)
                case Opened(date=date) if not self.start:
                    self.start = date
        if not bars:
            raise BadArgumentError(
                f"{session.path!r} is a recording without a bar of protocol"
                f" {probe.name!r}; record a venue that sends bars"
            )
        self.start = self.start or round(self.begin * 1000)
        self.codec = get_codec(probe.name, market or probe.market_type)
        self.streams = _streams(self.codec, [*found, *bars])
        self.symbols = list(
            dict.fromkeys(s for s, _ in _streams(self.codec, list(bars)))
        )


def _streams(codec: Codec, keys: list[tuple[str, str]]) -> list[StreamKey]:
    found: dict[StreamKey, None] = {}
    for symbol, timeframe in keys:
        try:
            found[codec.stream_key(symbol, timeframe)] = None
        except BadArgumentError:  # a name that the feeder would drop
            continue
    return list(found)


def _probe_codec(session: RecordedSession) -> Codec:
    """Return a codec of the recording's protocol, to look at its frames."""
    protocol, url = session.protocol, session.url
    if not protocol:
        is_binance = "binance" in url or "@kline" in url
        protocol = "binance" if is_binance else "wealthai"
    return get_codec(protocol, _binance_market(url) if protocol == "binance" else "")


def _binance_market(text: str) -> str:
    return next((market for part, market in _MARKETS if part in text), "spot")


class FramePlayer:
    """The events of a recording, in order.

    Attributes:
        streams: The streams of the recording.
        symbols: The symbols with bars.
        start: The venue's time at the start, ms UTC.
        grace: Seconds for which a step waits for a bar, as it does live.
        now: The time of what was played last, in seconds UTC.
        feed: The feed that is written.
    """

    def __init__(self, session: RecordedSession, settings: Settings) -> None:
        contents = _Contents(session)
        self.streams, self.symbols = contents.streams, contents.symbols
        self.start = contents.start
        self._contents, self._settings = contents, settings
        self.grace = settings.repair_grace
        self.now = contents.begin
        codec = contents.codec
        host = urlsplit(session.url).hostname or ""
        identity = make_identity(codec.name, codec.market_type, [host] if host else [])
        # It begins as connected: reads of `initialize` find no row, and are not stale.
        self.feed = PrivateFeed(self.streams, settings.history, identity)
        self._has_notes = session.has_notes
        self._events: Iterator[RecordedEvent] = session.events()
        self._next = next(self._events, None)
        self._tick_at = contents.begin
        self._last_tick = contents.end + max(
            settings.repair_grace, settings.close_grace
        )
        self._last_tick += 4 * _TICK_SECONDS
        self._playback: Playback | None = None

    def begin(self) -> None:
        """Begin to write the feed, which has been entered."""
        contents = self._contents
        with self.feed.writing() as writer:
            self._playback = Playback(
                writer,
                contents.codec,
                self._settings,
                self.streams,
                contents.begin,
                has_history=contents.has_history,
            )
            self.feed.never_silent()
        self.feed.set_time(self.start)

    @property
    def due(self) -> float | None:
        """The time of the next event or tick, in seconds UTC; None at the end.

        After the last event held bars are waited for, as long as a feeder holds them.
        """
        if self._next is not None:
            return min(self._next.time, self._tick_at)
        return self._tick_at if self._tick_at < self._last_tick else None

    def advance(self, limit: float) -> Moment:
        """Play what is due next, and what is due up to `limit`, in seconds UTC.

        It ends at the first change that a strategy may see.
        """
        playback = self._playback
        assert playback is not None  # noqa: S101 # it has begun
        playback.changed.clear()
        playback.has_reconnected = False
        with self.feed.writing():
            self._play_next(playback)
            while not (playback.changed or playback.has_reconnected):
                due = self.due
                if due is None or due > limit:
                    break
                self._play_next(playback)
        self.now = playback.now
        self.feed.set_time(playback.venue_now)
        return Moment(frozenset(playback.changed), playback.has_reconnected)

    def _play_next(self, playback: Playback) -> None:
        event = self._next
        if event is None or self._tick_at < event.time:
            playback.now = max(playback.now, self._tick_at)
        else:
            # A step of the recording host's clock backwards stands still.
            playback.now = max(playback.now, event.time)
            self._play(playback, event)
            self._next = next(self._events, None)
            if self._next is None:
                playback.end()
        self._tick_at = playback.now + _TICK_SECONDS
        playback.turn()

    def _play(self, playback: Playback, event: RecordedEvent) -> None:
        match event:
            case Frame(connection=connection, payload=payload):
                playback.message(connection, payload)
            case Opened(connection=connection, date=date):
                if date:
                    playback.date(date)
                if not self._has_notes:  # the URL has subscribed
                    playback.subscribed(connection, self.streams)
            case Subscribed(connection=connection, streams=streams):
                known = _streams(self._contents.codec, list(streams))
                playback.subscribed(connection, known)
            case RestAnswer() as answer:
                playback.answer(
                    RecordedAnswer(
                        answer.time,
                        answer.target,
                        answer.status,
                        dict(answer.headers),
                        answer.date,
                        answer.body,
                    )
                )
            case ConnectionClosed(connection=connection):
                playback.closed(connection)
