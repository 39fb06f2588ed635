"""wealthdata under test: each way to run a strategy, as the suite asks for it.

Only this module, `given_feed` and `live_run` import the implementation.
"""

import inspect
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from functools import partial
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from conformance import live_run
from conformance.given_feed import GivenFeed, Key, key_of
from conformance.market import GivenBar, Market

import wealthdata
from wealthdata import attachment, contexts_in_force
from wealthdata.choices import replace_choices
from wealthdata.runner.main import main

ways = ("live", "ahead", "hybrid", "replay", "backtest")
runs = ("live", "replay", "backtest")

PROBE = Path(__file__).parent / "probe_strategy.py"
OVERLAP = 2  # bars that both the ring and a context have

Probe = Callable[[int], None]


def function(name: str) -> Callable[..., Any]:
    """Return the call of this name; `signature` is the suite's own."""
    return signature if name == "signature" else getattr(wealthdata, name)


def signature(name: str, first: int | None = None) -> list[list[Any]]:
    """Return the arguments of a call: [name, default] each, "*" before keywords.

    `first` is the number of arguments to return.
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


@contextmanager
def _feed(bars: Sequence[GivenBar]) -> Iterator[GivenFeed]:
    """Write a feed, and read it in this process."""
    with GivenFeed(bars) as feed:
        wealthdata.use(feed=feed.name)
        yield feed


def _live(market: Market, moments: Sequence[int], probe: Probe) -> None:
    with _feed(market.bars) as feed:
        for moment in moments:
            feed.append(bar for bar in market.bars if bar.close_time <= moment)
            feed.set_forming(market.forming, moment)
            feed.set_time(moment)
            wealthdata.set_context(_context((), moment))
            probe(moment)


def _ahead(market: Market, moments: Sequence[int], probe: Probe) -> None:
    with _feed(market.bars) as feed:
        feed.append(market.bars)
        for moment in moments:
            feed.set_time(market.bars[-1].close_time)
            wealthdata.set_context(_context((), moment))
            probe(moment)


def _hybrid(market: Market, moments: Sequence[int], probe: Probe) -> None:
    """Give a context the older half; where both have a bar, its values are wrong."""
    older, newer = [], []
    for key in dict.fromkeys(map(key_of, market.bars)):
        bars = [bar for bar in market.bars if key_of(bar) == key]
        half = len(bars) // 2
        older += bars[:half]
        older += [bar._replace(close=bar.high) for bar in bars[half:][:OVERLAP]]
        newer += bars[half:]
    newer.sort(key=lambda bar: bar.close_time)
    with _feed(market.bars) as feed:
        for moment in moments:
            feed.append(bar for bar in newer if bar.close_time <= moment)
            feed.set_time(moment)
            wealthdata.set_context(_context(older, moment))
            probe(moment)


def _run_probe(way: str, market: Market, moments: Sequence[int], probe: Probe) -> None:
    """Let the runner run the strategy that looks at each close time."""
    keys = dict.fromkeys(map(key_of, market.bars))
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
        if way == "live":
            live_run.run(strategy, market.bars, symbols, frequency, record)
        else:
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


def _naive(moment: int) -> datetime:
    return datetime.fromtimestamp(moment / 1000, UTC).replace(tzinfo=None)


def _context(bars: Sequence[GivenBar], moment: int) -> wealthdata.Context:
    entries: dict[Key, list[dict[str, Any]]] = {}
    for bar in bars:
        entries.setdefault(key_of(bar), []).append(_as_dict(bar))
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
