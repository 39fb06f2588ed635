"""Where a demo's figures go: a live table, plain lines, or JSON lines.

The demo's figures in words.
"""

import json
from textwrap import wrap
from types import TracebackType
from typing import Any, Protocol, Self

from shmfeed.demo.metrics import Figures
from shmfeed.demo.options import BURST, LONGEST, RESOLUTIONS, SHORTEST, Plan, processors

_WIDTH = 78


def micros(nanoseconds: float | None) -> str:
    """The time of a read."""
    if nanoseconds is None:
        return "-"
    value = nanoseconds / 1000
    return f"{value:.0f} µs" if value < 10_000 else f"{value / 1000:.0f} ms"


def millis(microseconds: float | None) -> str:
    """A delay."""
    return "-" if microseconds is None else f"{microseconds / 1000:.0f} ms"


def seconds(value: float | None) -> str:
    """The age of a bar."""
    return "-" if value is None else f"{value:.1f} s"


def footnote() -> str:
    """How the numbers come about."""
    count = processors()
    return (
        f"A read is one get_price of {SHORTEST} to {LONGEST} rows. Each value of each"
        f" row is compared with the venue's own. A strategy pauses after {BURST} reads,"
        f" so that all together leave half of {count} CPU{'' if count == 1 else 's'} to"
        " venue and feeder."
    )


def tick(figures: Figures) -> str:
    """One plain line for a moment."""
    reads, bars = figures.all, figures.live_bars
    return (
        f"{figures.elapsed:5.0f} s  bars {bars:,} ({figures.bars_rate:.0f}/s)"
        f"  reads {reads.rate:,.0f}/s  p50 {micros(reads.p50)}  p99 {micros(reads.p99)}"
        f"  newest {seconds(figures.newest_age)} old  torn {reads.torn}"
        f"  reconnects {figures.reconnects}  {figures.health}"
    )


def summary(plan: Plan, figures: Figures) -> list[str]:
    """The whole demo, line by line."""
    reads, history = figures.all, figures.first_bars
    rate = reads.reads / figures.elapsed
    rows = {
        "bars in": f"{figures.live_bars:,} live, after {history:,} of history",
        "from close to read": f"{millis(figures.delay)} (median)",
        "reads": f"{reads.reads:,}, {rate:,.0f} a second",
        "one read": f"p50 {micros(reads.p50)}, p99 {micros(reads.p99)}",
        "newest bar": f"{seconds(figures.newest_age)} old at the end",
        "rows checked": f"{reads.rows:,}",
        "torn rows": f"{reads.torn:,}",
        "reconnects": f"{figures.reconnects}{_cause(plan, figures)}",
        "bars missing": f"{figures.gaps:,}",
    }
    streams = f"{len(plan.symbols)} symbols x {' '.join(RESOLUTIONS)}"
    title = (
        f"{figures.elapsed:.0f} s, 1 feeder, {plan.strategies} strategies, {streams}"
    )
    lines = [title, *(f"  {name:<20}{value}" for name, value in rows.items())]
    lines += [f"  ! {failure}" for failure in figures.failures]
    return [*lines, "", *wrap(footnote(), _WIDTH), verdict(figures)]


def verdict(figures: Figures) -> str:
    """How it went, in one line."""
    if figures.good:
        return "ok: every value that a strategy read is the venue's"
    if not figures.all.rows:
        return "FAILED: no bars were read"
    if figures.all.torn:
        return f"FAILED: {figures.all.torn:,} rows are not the venue's"
    return "FAILED: not every strategy came to its end, see the lines with !"


def _cause(plan: Plan, figures: Figures) -> str:
    cut = plan.cut_at
    if cut is None or figures.elapsed < cut:
        return ""
    return f" (the venue hung up at {cut:g} s)"


class Screen(Protocol):
    """A context manager around the time in which `show` is called."""

    interval: float  # seconds between two calls of `show`

    def say(self, line: str) -> None:
        """What is going on, before the figures begin."""

    def show(self, figures: Figures) -> None:
        """The figures of a moment."""

    def close(self, figures: Figures) -> None:
        """The figures of the whole, after the `with` block."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class PlainScreen:
    """A line a second, and the summary."""

    interval = 1.0

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def say(self, line: str) -> None:
        print(line, flush=True)

    def show(self, figures: Figures) -> None:
        print(tick(figures), flush=True)

    def close(self, figures: Figures) -> None:
        print("", *summary(self._plan, figures), sep="\n", flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


class JsonScreen(PlainScreen):
    """An object a second, and one of the whole with `"ok"`."""

    def say(self, line: str) -> None:
        pass

    def show(self, figures: Figures) -> None:
        print(json.dumps(_plain(figures)), flush=True)

    def close(self, figures: Figures) -> None:
        whole = {**_plain(figures), "ok": figures.good}
        print(json.dumps({"summary": whole}), flush=True)


def _plain(figures: Figures) -> dict[str, Any]:
    each = [{"strategy": n, **reads._asdict()} for n, reads in figures.each]
    return {**figures._asdict(), "all": figures.all._asdict(), "each": each}
