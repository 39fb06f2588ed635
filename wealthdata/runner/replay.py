"""The replay mode of the runner: recorded bars or frames, played through a feed.

The strategy reads a feed as it does live, by the same code; the feed is a segment of
this process alone, under the names of the feeds that the strategy reads. It stands
still while a handler runs: the next bars are appended when the next step is asked for.
So a replay gives the same answers at each run, at any speed, and shows no bar too
early.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol, Self

from shmfeed.bar import StreamKey
from shmfeed.bar_files import ENDINGS, is_parquet
from shmfeed.errors import BadArgumentError
from shmfeed.settings.loading import from_env, load
from shmfeed.settings.model import Settings
from shmfeed.simulator.replay import RecordedSession
from wealthdata.attachment import attached_feed, detach, selected_feed
from wealthdata.bar_history import BarHistory
from wealthdata.carried import list_of, nearest
from wealthdata.choices import use
from wealthdata.events import Closed
from wealthdata.followed_stream import FollowedStream
from wealthdata.handed import current_record
from wealthdata.rollup import SOURCES
from wealthdata.runner.bar_file import BarFile, check_streams, read_bar_file
from wealthdata.runner.feed_files import files_by_feed, split_feed
from wealthdata.runner.private_feed import Moment, PrivateFeed
from wealthdata.runner.replayed_bars import BarPlayer
from wealthdata.runner.replayed_frames import FramePlayer
from wealthdata.runner.replayed_streams import ReplayedStreams
from wealthdata.runner.report import tell, tell_shortages
from wealthdata.runner.step_assembly import StepAssembly, ignore_behind
from wealthdata.runner.steps import Event, RunRequest, Step
from wealthdata.securities import check_securities
from wealthdata.stand_ins import replace_stand_ins

_SETTINGS = (  # those of the feeder that change rows
    "history",
    "close_grace",
    "repair_grace",
    "rest_settle",
    "sequence",
    "warmup",
)


class _Player(Protocol):
    streams: list[StreamKey]
    start: int
    grace: float
    now: float  # of what was played last, in seconds UTC
    feed: PrivateFeed

    @property
    def due(self) -> float | None: ...
    def begin(self) -> None: ...
    def advance(self, limit: float) -> Moment: ...


class ReplayMode:
    """A run on recorded bars or frames.

    Args:
        request: The streams of the run.
        files: A file, or several as FEED=FILE: one for each feed that the symbols name.
        speed: Times the recorded pace; inf for no waits.

    Attributes:
        feed: The name under which the strategy reads.
        start: The time at which the recording begins, ms UTC.

    Raises:
        BadArgumentError: A file cannot be read, is neither bars nor frames, or has no
            bar of a symbol; or this process reads no feed.
    """

    run_type = "sim_trade"
    history: BarHistory | None = None

    def __init__(
        self,
        request: RunRequest,
        files: str | Sequence[str],
        speed: float = math.inf,
    ) -> None:
        self._request, self._speed = request, speed
        chosen = request.feed or selected_feed()
        if chosen is None or selected_feed() is None:
            raise BadArgumentError(
                "a replay is read as a feed, and this process reads none"
                " (SHMFEED_FEED=off, or context_only); unset it, or run with --backtest"
            )
        self._securities = check_securities(request.symbols)
        listed = [files] if isinstance(files, str) else files
        if len(listed) == 1 and not any(each.feed for each in self._securities):
            # The file may name the feed, which the symbols leave out.
            chosen = split_feed(listed[0])[0] or chosen
        self.feed: str | None = chosen
        names = dict.fromkeys(each.feed or chosen for each in self._securities)
        paths = files_by_feed("--replay", listed, list(names))
        self._players = {
            name: self._player(
                path, [s.symbol for s in self._securities if (s.feed or chosen) == name]
            )
            for name, path in paths.items()
        }
        self.start = min(player.start for player in self._players.values())
        self._stack = ExitStack()
        self._begun: tuple[float, float] | None = None  # recorded, and here

    def _player(self, path: str, symbols: Sequence[str]) -> _Player:
        settings = _settings()
        content = _open(path)
        timeframes = self._request.timeframes
        if isinstance(content, BarFile):
            check_streams(content, symbols, timeframes)
            for sentence in content.holes():
                tell(sentence)
            return BarPlayer(content, settings.history)
        player = FramePlayer(content, settings)
        _check_streams(content.path, player, symbols, timeframes)
        return player

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for player in self._players.values():
                stack.enter_context(player.feed)
                player.begin()
            segments = {name: one.feed.name for name, one in self._players.items()}
            stack.callback(detach)
            stack.callback(replace_stand_ins, None)
            replace_stand_ins(segments)
            detach()
            use(feed=self.feed)
            ignore_behind(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def steps(self) -> Iterator[Step | Event]:
        """Yield each step, and each event of its streams, in the recorded order."""
        request = self._request
        streams = ReplayedStreams(self._followed(), current_record(), self.start)
        grace = max(player.grace for player in self._players.values())
        assembly = StepAssembly(
            request.symbols, request.timeframes, grace, after=self.start
        )
        for feed, moment, now in self._moments(assembly):
            for event in streams.hand_over(feed, moment):
                if isinstance(event, Closed):
                    assembly.add(event, now)
                else:
                    yield event
            while (step := assembly.take(self._next_due()[0])) is not None:
                yield step

    def _followed(self) -> list[FollowedStream]:
        found = []
        for each in self._securities:
            feed = each.feed or self.feed or ""
            for timeframe in self._request.timeframes:
                stream = FollowedStream(feed, each, timeframe)
                stream.find(attached_feed(feed))
                found.append(stream)
        tell_shortages(found)
        return found

    def _next_due(self) -> tuple[float, str | None]:
        """Return the time of what is due next, and its feed; None at the end."""
        due: tuple[float, str | None] = math.inf, None
        for name, player in self._players.items():
            if player.due is not None and player.due < due[0]:
                due = player.due, name
        return due

    def _moments(self, assembly: StepAssembly) -> Iterator[tuple[str, Moment, float]]:
        """Yield the feed and changes of each advance, and its time in seconds UTC."""
        while True:
            due, name = self._next_due()
            if name is None:
                return
            self._wait_until(due)
            limit = due
            if self._speed == math.inf and len(self._players) == 1:
                limit = assembly.deadline
            player = self._players[name]
            moment = player.advance(limit)
            yield name, moment, player.now

    def _wait_until(self, due: float) -> None:
        if self._speed == math.inf:
            return
        if self._begun is None:
            self._begun = due, time.monotonic()
        recorded, here = self._begun
        left = (due - recorded) / self._speed - (time.monotonic() - here)
        if left > 0:
            time.sleep(left)


def _settings() -> Settings:
    """Return the settings of the environment that change rows, else the defaults."""
    given = from_env()
    return load({name: given[name] for name in _SETTINGS if name in given}, {})


def _open(path: str) -> BarFile | RecordedSession:
    is_named_bars = path.lower().endswith(ENDINGS)
    try:
        with Path(path).open("rb") as file:
            begins_as_frames = b"://" in file.readline(1 << 16)
    except OSError:
        begins_as_frames = False  # the reader's own error says why
    if is_named_bars and begins_as_frames and not is_parquet(path):
        raise BadArgumentError(
            f"{path} is named as a file of bars, and begins as a recording of frames;"
            " rename it"
        )
    if is_named_bars:
        return read_bar_file(path)
    try:
        return RecordedSession(path)
    except BadArgumentError as error:
        if Path(path).is_file():
            raise BadArgumentError(
                f"{path} is neither a file of bars, whose name ends in .csv or"
                " .parquet, nor a recording of frames, which begins with a URL"
            ) from None
        raise BadArgumentError(f"--replay: {error}") from None


def _check_streams(
    path: str, player: FramePlayer, symbols: Sequence[str], timeframes: Sequence[str]
) -> None:
    for symbol in symbols:
        if symbol not in player.symbols:
            known = player.symbols
            raise BadArgumentError(
                f"{path} has no bar of {symbol}; it has {list_of(known)}"
                f"{nearest(symbol, known)}"
            )
        held = {timeframe for name, timeframe in player.streams if name == symbol}
        for timeframe in timeframes:
            if not held & {timeframe, *SOURCES[timeframe]}:
                raise BadArgumentError(
                    f"{path} has no bars of {symbol} that make {timeframe}; it has"
                    f" {' '.join(sorted(held))}"
                )
