"""The history of a feed: source, worker, repair and symbols, for the main loop."""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from shmfeed.bar import StreamKey
from shmfeed.codecs import Codec
from shmfeed.control.messages import ControlRequest
from shmfeed.feeder.intake import Intake
from shmfeed.feeder.reasons import Reasons
from shmfeed.feeder.repair import Repair
from shmfeed.feeder.repair_log import RepairLog
from shmfeed.feeder.repair_ports import RepairLimits
from shmfeed.feeder.symbol_check import SymbolChanged, SymbolCheck
from shmfeed.feeder.warmup import WarmupProgress
from shmfeed.history.registry import has_own_rest, make_source
from shmfeed.history.worker import HistoryWorker
from shmfeed.settings.backfill import AUTO, REST_MARKETS
from shmfeed.settings.model import Settings
from shmfeed.wire.boot_clock import boot_seconds
from shmfeed.wire.events import Streams
from shmfeed.writer import FeedWriter

log = logging.getLogger(__name__)

TURN_SECONDS = 0.05
NO_SOURCE = "no history source"


ShowWarmup = Callable[[WarmupProgress | None], None]


class Refusal(NamedTuple):
    """Streams of a symbol that the venue does not know, and the venue's words.

    With `fails` no connection may serve with them; else they are left out.
    """

    streams: Streams
    message: str
    fails: bool


class HistoryTurn(NamedTuple):
    """The news of a turn.

    Attributes:
        leave: Streams whose connections lie.
        refused: Streams that the venue does not know.
        said: A text for `last_error`, else "".
        forbidden: Streams with which no connection may serve, as `on_refused` says, and
            the reason of each; None if they are as before.
        blocked: The reason as the source begins to refuse requests, else "".
    """

    leave: Streams = ()
    refused: tuple[Refusal, ...] = ()
    said: str = ""
    forbidden: Mapping[StreamKey, str] | None = None
    blocked: str = ""


QUIET = HistoryTurn()


class FeedHistory:
    """The history of one feed. Only the main loop uses it.

    Attributes:
        source: The source of history, None without one.
        on_warmup: Told how far a warm-up is, and None at its end.
    """

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        wake: Callable[[], None],
        current: Callable[[], Settings],
    ) -> None:
        """Find the source that the settings name, and ask for nothing yet.

        `wake` is called on other threads, when an answer has come. `current` returns
        the settings in force.
        """
        self.source = make_source(settings, codec, current)
        self.on_warmup: ShowWarmup | None = None
        self._is_warming = False
        self._wake_loop = wake
        self._is_woken = True  # an answer is there, or a stream has changed
        self._next_turn = 0.0
        self._settings, self._current = settings, current
        self._unknown: dict[str, str] = {}  # symbols, and what the venue says of them
        self._forbidden: dict[StreamKey, str] = {}
        is_wanted = settings.backfill == AUTO and codec.name in REST_MARKETS
        self._lacks_address = is_wanted and not has_own_rest(settings)
        self._name = NO_SOURCE if self.source is None else self.source.name
        self._worker = self._symbols = None
        if self.source is not None:
            self._worker = HistoryWorker(self.source, self._wake)
        if self.source is not None and self.source.is_own:
            self._symbols = SymbolCheck(self.source, self._wake)
        self._log = RepairLog(settings.feed, self._name)

    def begin(self, intake: Intake, writer: FeedWriter, reasons: Reasons) -> None:
        """Repair the rows of this writer from now on."""
        settings = self._settings
        self._reasons = reasons
        self._streams: Streams = ()
        limits = RepairLimits(
            settings.repair_grace,
            settings.warmup_bars,
            writer.geometry.history,
            settings.rest_settle,
        )
        self._repair = Repair(
            intake,
            writer,
            reasons,
            limits,
            self._log,
            self._worker,
            self._name,
            compares=self.source is not None and self.source.is_own,
        )

    def is_busy(self) -> bool:
        """Return True while requests wait for an answer. Any thread may call it."""
        return self._worker is not None and self._worker.pending > 0

    @property
    def symbols(self) -> SymbolCheck | None:
        """The check of symbols, None if the source tells no states."""
        return self._symbols

    @property
    def quiet(self) -> set[StreamKey]:
        """The silent streams of which nothing newer is to come, as of `Repair`."""
        return self._repair.quiet

    def set_streams(self, streams: Iterable[StreamKey], now: float) -> None:
        """Carry exactly these streams from now on; new ones warm up."""
        self._is_woken = True
        self._streams = tuple(streams)
        self._repair.set_streams(self._streams, now)
        symbols = {symbol for symbol, _ in self._streams}
        self._unknown = {
            one: self._unknown[one] for one in self._unknown.keys() & symbols
        }
        if self._symbols is not None:
            self._symbols.set_symbols(symbols)

    def connected(self, streams: Iterable[StreamKey], now: float) -> None:
        """Ask for the bars that these streams missed: a connection carries them now."""
        self._is_woken = True
        if self._lacks_address:
            log.info("no history: give the venue's rest_endpoint beside its endpoint")
            self._lacks_address = False
        self._repair.connected(streams, now)
        if self._symbols is not None:
            self._symbols.connected(now)

    def begin_again(self, streams: Iterable[StreamKey], now: float) -> None:
        """Ask for the history of these streams as at a start."""
        self._is_woken = True
        self._repair.begin_again(streams, now)

    @property
    def warming(self) -> set[StreamKey]:
        """The streams whose warm-up is under way."""
        return self._repair.warming

    def carry_on(self, streams: Iterable[StreamKey]) -> None:
        """Begin without a warm-up of these streams, as no bar of theirs is missing."""
        self._repair.carry_on(streams)

    def disconnected(self, streams: Iterable[StreamKey]) -> None:
        """Record that no connection carries these streams."""
        self._repair.disconnected(streams)

    def settle_holes(self, request: ControlRequest) -> int:
        """Retry or accept holes, of the named streams or of all. Return how many."""
        symbols, resolutions = request.symbols, request.resolutions
        named = [
            (symbol, timeframe)
            for symbol, timeframe in self._streams
            if (symbols is None or symbol in symbols)
            and (resolutions is None or timeframe in resolutions)
        ]
        if request.op == "accept":
            return self._repair.accept(named)
        return self._repair.retry(named, boot_seconds())

    def turn(self, now: float) -> HistoryTurn:
        """Take answers, ask for what is due, and return what is new.

        Call it after each batch. It works at most every TURN_SECONDS, and once it is
        woken.
        """
        if now < self._next_turn and not self._is_woken:
            return QUIET
        self._next_turn, self._is_woken = now + TURN_SECONDS, False
        self._repair.tick(now)
        self._tell_warmup()
        refused: list[Refusal] = []
        if self._symbols is not None:
            for change in self._symbols.tick(now):
                refused += self._symbol_changed(change)
        leave, said = self._repair.take_lying(now), self._log.take_said()
        forbidden, blocked = self._forbid(), self._log.take_blocked()
        if leave or refused or said or blocked or forbidden is not None:
            return HistoryTurn(leave, tuple(refused), said, forbidden, blocked)
        return QUIET

    def close(self) -> None:
        """End all requests, also those under way."""
        self._repair.close()

    def _forbid(self) -> Mapping[StreamKey, str] | None:
        forbidden = {}
        if self._unknown and self._current().on_refused == "fail":
            forbidden = {
                key: f"{key[0]}: {self._unknown[key[0]]}"
                for key in self._streams
                if key[0] in self._unknown
            }
        if forbidden == self._forbidden:
            return None
        self._forbidden = forbidden
        return forbidden

    def _tell_warmup(self) -> None:
        progress = self._repair.progress
        if self.on_warmup is not None and (self._is_warming or progress is not None):
            self._is_warming = progress is not None
            self.on_warmup(progress)

    def _wake(self) -> None:
        # On another thread: first the mark, then the wake-up that has it looked at.
        self._is_woken = True
        self._wake_loop()

    def _symbol_changed(self, change: SymbolChanged) -> list[Refusal]:
        symbol, state = change
        streams = tuple(key for key in self._streams if key[0] == symbol)
        self._unknown.pop(symbol, None)
        if not state.is_known:
            self._unknown[symbol] = state.text
            self._repair.refuse(streams)
            fails = self._current().on_refused == "fail"
            return [Refusal(streams, state.text, fails)]
        for key in streams:
            self._repair.set_trading(key, state.trades)
            self._reasons.clear(key, "refused")
            if state.trades:
                self._reasons.clear(key, "closed")
            else:
                self._reasons.put(key, "closed", state.text)
        feed = self._settings.feed
        if state.trades:
            log.info("feed %s: %s trades", feed, symbol)
        else:
            log.warning("feed %s: %s does not trade: %s", feed, symbol, state.text)
        return []
