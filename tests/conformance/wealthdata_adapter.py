"""wealthdata under test: each way to run a strategy, as the suite asks for it.

The only module of the suite that imports the implementation.
"""

import inspect
import itertools
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from functools import partial
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from conformance.market import FormingBar, GivenBar, Market

import wealthdata
from shmfeed.identity import make_identity
from shmfeed.ringbuf import RingWriter
from shmfeed.writer import FeedWriter, create
from wealthdata import attachment, contexts_in_force
from wealthdata.choices import replace_choices
from wealthdata.runner.main import main

ways = ("live", "ahead", "hybrid", "replay", "backtest")
runs = ("replay", "backtest")

PROBE = Path(__file__).parent / "probe_strategy.py"
IDENTITY = make_identity("binance", "spot", ["venue.example"])
OVERLAP = 2  # bars that both the ring and a context have
_numbers = itertools.count()

Probe = Callable[[int], None]
Key = tuple[str, str]


def function(name: str) -> Callable[..., Any]:
    """Return the call of this name; `signature` is the suite's own."""
    return signature if name == "signature" else getattr(wealthdata, name)


def signature(name: str, first: int | None = None) -> list[list[Any]]:
    """Return the arguments of a call: [name, default] each, "*" before keywords.

    `first` is how many to return.
    """
    found: list[list[Any]] = []
    for parameter in inspect.signature(getattr(wealthdata, name)).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and ["*"] not in found:
            found.append(["*"])
        found.append([parameter.name])
        if parameter.default is not parameter.empty:
            found[-1].append(parameter.default)
    return found[:first]


@contextmanager
def choices(given: Mapping[str, Any]) -> Iterator[None]:
    """Make choices of `use`, and end them at the exit."""
    if not given:
        yield
        return
    earlier = replace_choices({})
    replace_choices(earlier)
    wealthdata.use(**given)
    try:
        yield
    finally:
        replace_choices(earlier)


def play(way: str, market: Market, moments: Sequence[int], probe: Probe) -> None:
    """Run a strategy on the given bars in this way; see `adapter.Adapter`."""
    with _as_strategy():
        _PLAYS[way](market, moments, probe)


@contextmanager
def _as_strategy() -> Iterator[None]:
    """Let this process read as a strategy does, and forget that at the exit."""
    earlier = replace_choices({})
    try:
        yield
    finally:
        wealthdata.clear_context()
        contexts_in_force.current.set(None)  # this thread has read live bars
        attachment.detach()
        replace_choices(earlier)


def _live(market: Market, moments: Sequence[int], probe: Probe) -> None:
    with _Feed(market.bars) as feed:
        for moment in moments:
            feed.append(bar for bar in market.bars if bar.close_time <= moment)
            feed.set_forming(market.forming, moment)
            feed.set_time(moment)
            wealthdata.set_context(_context((), moment))
            probe(moment)


def _ahead(market: Market, moments: Sequence[int], probe: Probe) -> None:
    with _Feed(market.bars) as feed:
        feed.append(market.bars)
        for moment in moments:
            feed.set_time(market.bars[-1].close_time)
            wealthdata.set_context(_context((), moment))
            probe(moment)


def _hybrid(market: Market, moments: Sequence[int], probe: Probe) -> None:
    """Give a context the older half; where both have a bar, its values are wrong."""
    older, newer = [], []
    for key in dict.fromkeys(map(_key, market.bars)):
        bars = [bar for bar in market.bars if _key(bar) == key]
        half = len(bars) // 2
        older += bars[:half]
        older += [bar._replace(close=bar.high) for bar in bars[half:][:OVERLAP]]
        newer += bars[half:]
    newer.sort(key=lambda bar: bar.close_time)
    with _Feed(market.bars) as feed:
        for moment in moments:
            feed.append(bar for bar in newer if bar.close_time <= moment)
            feed.set_time(moment)
            wealthdata.set_context(_context(older, moment))
            probe(moment)


def _run_probe(way: str, market: Market, moments: Sequence[int], probe: Probe) -> None:
    """Let the runner run the strategy that looks at each close time."""
    keys = dict.fromkeys(map(_key, market.bars))
    symbols = dict.fromkeys(symbol for symbol, _ in keys)
    timeframes = dict.fromkeys(timeframe for _, timeframe in keys)
    _Looking.moments, _Looking.probe = frozenset(moments), probe
    source = f"--{way}", str(market.path)
    _run(PROBE, symbols, ",".join(timeframes), *source)


def _run(path: Path, symbols: Iterable[str], frequency: str, *options: str) -> None:
    streams = ["--symbols", ",".join(symbols), "--frequency", frequency]
    with redirect_stderr(StringIO()) as told, redirect_stdout(StringIO()):
        code = main(["run", str(path), *streams, *options])
    if code:
        raise RuntimeError(f"the runner has ended with {code}: {told.getvalue()}")


class _Looking:
    """The suite, for the strategy that the runner runs."""

    moments: frozenset[int] = frozenset()
    probe: Probe


def look(now: datetime) -> None:
    """Let the suite look, if it asks for this moment."""
    moment = round(now.replace(tzinfo=UTC).timestamp() * 1000)
    if moment in _Looking.moments:
        _Looking.probe(moment)


def run(
    way: str, strategy: Path, market: Market, symbols: Sequence[str], frequency: str
) -> list[tuple[int, Any]]:
    """Run a strategy's file on the given bars; see `adapter.Adapter`."""
    with TemporaryDirectory() as folder:
        record = Path(folder) / "decisions.jsonl"
        source = f"--{way}", str(market.path)
        _run(strategy, symbols, frequency, *source, "--record", str(record))
        lines = [json.loads(line) for line in record.read_text().splitlines()]
    return [(line["time"], line["what"]) for line in lines if "what" in line]


_PLAYS: dict[str, Callable[[Market, Sequence[int], Probe], None]] = {
    "live": _live,
    "ahead": _ahead,
    "hybrid": _hybrid,
    "replay": partial(_run_probe, "replay"),
    "backtest": partial(_run_probe, "backtest"),
}


class _Feed:
    """A feed of this process, which it reads."""

    def __init__(self, bars: Sequence[GivenBar]) -> None:
        keys = dict.fromkeys(map(_key, bars))
        name = f"conformance-{os.getpid()}-{next(_numbers)}"
        self._writer: FeedWriter = create(
            name, history=len(bars), guard=1, max_streams=len(keys), identity=IDENTITY
        )
        self._rings: dict[Key, RingWriter] = {}
        self._had: dict[Key, int] = {}
        for key in keys:
            self._rings[key] = self._writer.add_stream(*key)
        self._writer.set_state("connected")
        wealthdata.use(feed=name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close(unlink=True)

    def append(self, bars: Iterator[GivenBar] | Sequence[GivenBar]) -> None:
        """Append those of these bars that are not there yet."""
        for bar in bars:
            key = _key(bar)
            if bar.close_time > self._had.get(key, 0):
                self._had[key] = bar.close_time
                self._rings[key].append(
                    bar.open_time, *bar[4:9], money=bar.money, flags=bar.flags
                )

    def set_forming(self, forming: Sequence[FormingBar], moment: int) -> None:
        for at, bar in forming:
            if at <= moment < bar.close_time:
                self._rings[_key(bar)].update_forming(bar.open_time, *bar[4:9])

    def set_time(self, moment: int) -> None:
        """Set the venue's clock, and beat as a feeder does."""
        self._writer.set_clock_offset(moment - time.time() * 1000)
        self._writer.tick()


def _key(bar: GivenBar) -> Key:
    return bar.symbol, bar.timeframe


def _naive(moment: int) -> datetime:
    return datetime.fromtimestamp(moment / 1000, UTC).replace(tzinfo=None)


def _context(bars: Sequence[GivenBar], moment: int) -> wealthdata.Context:
    entries: dict[Key, list[dict[str, Any]]] = {}
    for bar in bars:
        entries.setdefault(_key(bar), []).append(_as_dict(bar))
    return wealthdata.Context(
        [
            {"symbol": symbol, "timeframe": timeframe, "bars": listed}
            for (symbol, timeframe), listed in entries.items()
        ],
        current_dt=_naive(moment),
    )


def _as_dict(bar: GivenBar) -> dict[str, Any]:
    made = bar._asdict()
    del made["symbol"], made["timeframe"]
    if math.isnan(bar.money):
        del made["money"]
    return made
