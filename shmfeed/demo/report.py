"""The report of a demo's metrics, as lines of text or of JSON.

`demo.table` draws the same metrics as a live table.
"""

import json
from textwrap import wrap
from typing import Any, Protocol, Self

from shmfeed.demo.metrics import DemoMetrics
from shmfeed.demo.options import BURST, MAX_ROWS, MIN_ROWS, DemoOptions, cpu_count
from shmfeed.text import counted

_WIDTH = 78


def format_ns(nanoseconds: float | None) -> str:
    if nanoseconds is None:
        return "-"
    value = nanoseconds / 1000
    return f"{value:.0f} µs" if value < 10_000 else f"{value / 1000:.0f} ms"


def format_us(microseconds: float | None) -> str:
    return "-" if microseconds is None else f"{microseconds / 1000:.0f} ms"


def format_seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.1f} s"


def footnote() -> str:
    """Return an explanation of how the numbers are measured."""
    count = cpu_count()
    return (
        f"A read is one get_price of {MIN_ROWS} to {MAX_ROWS} rows. Each value of each"
        f" row is compared with the venue's own. A strategy pauses after {BURST} reads,"
        f" so that all together leave half of {count} CPU{'' if count == 1 else 's'} to"
        " the venue and the feeder."
    )


def progress_line(metrics: DemoMetrics) -> str:
    """Return one line about this moment."""
    reads, bars = metrics.all, metrics.live_bars
    return (
        f"{metrics.elapsed:5.0f} s  bars {bars:,} ({metrics.bars_rate:.0f}/s)"
        f"  reads {reads.rate:,.0f}/s"
        f"  p50 {format_ns(reads.p50)}  p99 {format_ns(reads.p99)}"
        f"  newest {format_seconds(metrics.newest_age)} old  torn {reads.torn}"
        f"  reconnects {metrics.reconnects}  {metrics.health}"
    )


def summary(options: DemoOptions, metrics: DemoMetrics) -> list[str]:
    """Return lines about the whole demo."""
    reads, history = metrics.all, metrics.first_bars
    rate = reads.reads / metrics.elapsed
    rows = {
        "bars in": f"{metrics.live_bars:,} live, after {history:,} of history",
        "from close to read": f"{format_us(metrics.delay)} (median)",
        "reads": f"{reads.reads:,}, {rate:,.0f} a second",
        "one read": f"p50 {format_ns(reads.p50)}, p99 {format_ns(reads.p99)}",
        "newest bar": f"{format_seconds(metrics.newest_age)} old at the end",
        "rows checked": f"{reads.rows:,}",
        "torn rows": f"{reads.torn:,}",
        "reconnects": f"{metrics.reconnects}{_cause(options, metrics)}",
        "bars missing": f"{metrics.gaps:,}",
    }
    if options.relay:
        rows |= _relay_rows(options, metrics)
    strategies = counted(options.strategies, "strategy", "strategies")
    feeders = "a leader, a standby, a follower" if options.relay else "1 feeder"
    title = f"{metrics.elapsed:.0f} s, {feeders}, {strategies}, {options.streams}"
    lines = [title, *(f"  {name:<20}{value}" for name, value in rows.items())]
    lines += [f"  ! {failure}" for failure in metrics.failures]
    return [*lines, "", *wrap(footnote(), _WIDTH), verdict(options, metrics)]


def passed(options: DemoOptions, metrics: DemoMetrics) -> bool:
    """Return True if nothing was wrong, and a relay has another leader at its end."""
    return metrics.passed and not _lacks_leader(options, metrics)


def verdict(options: DemoOptions, metrics: DemoMetrics) -> str:
    """Return the result of the demo in one line."""
    if passed(options, metrics):
        return "ok: every value that a strategy read is the venue's"
    if metrics.passed:
        return "FAILED: the standby did not take the place of the leader"
    if not metrics.all.rows:
        return "FAILED: no bars were read"
    if metrics.all.torn:
        return f"FAILED: {metrics.all.torn:,} rows differ from the venue's"
    return "FAILED: a strategy failed or ended early; see the lines that begin with !"


def _lacks_leader(options: DemoOptions, metrics: DemoMetrics) -> bool:
    cut_at = options.cut_at
    is_killed = options.relay and cut_at is not None and metrics.elapsed >= cut_at
    return is_killed and metrics.take_over is None


def _relay_rows(options: DemoOptions, metrics: DemoMetrics) -> dict[str, str]:
    leaders = ", then ".join(metrics.leaders) or "none"
    return {
        "reconnects": f"{metrics.reconnects}",
        "leaders": f"{leaders}{_cause(options, metrics)}",
        "take-over": f"{format_seconds(metrics.take_over)} after the leader's end",
    }


def _cause(options: DemoOptions, metrics: DemoMetrics) -> str:
    cut_at = options.cut_at
    if cut_at is None or metrics.elapsed < cut_at:
        return ""
    return f" ({options.trouble} at {cut_at:g} s)"


class Screen(Protocol):
    """The output of a demo: a context manager around the calls of `update`."""

    interval: float  # seconds between two calls of `update`

    def print_line(self, line: str) -> None:
        """Print a line before the demo begins."""

    def update(self, metrics: DemoMetrics) -> None:
        """Show the metrics of this moment."""

    def summarize(self, metrics: DemoMetrics) -> None:
        """Print the metrics of the whole demo, after the `with` block."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


class LineScreen:
    """A line each second, and the summary."""

    interval = 1.0

    def __init__(self, options: DemoOptions) -> None:
        self._options = options

    def print_line(self, line: str) -> None:
        print(line, flush=True)

    def update(self, metrics: DemoMetrics) -> None:
        print(progress_line(metrics), flush=True)

    def summarize(self, metrics: DemoMetrics) -> None:
        print("", *summary(self._options, metrics), sep="\n", flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


class JsonScreen(LineScreen):
    """An object each second, and one of the whole with the key "ok"."""

    def print_line(self, line: str) -> None:
        pass

    def update(self, metrics: DemoMetrics) -> None:
        print(json.dumps(_to_dict(metrics)), flush=True)

    def summarize(self, metrics: DemoMetrics) -> None:
        whole = {**_to_dict(metrics), "ok": passed(self._options, metrics)}
        print(json.dumps({"summary": whole}), flush=True)


def _to_dict(metrics: DemoMetrics) -> dict[str, Any]:
    each = [{"strategy": n, **reads._asdict()} for n, reads in metrics.each]
    return {**metrics._asdict(), "all": metrics.all._asdict(), "each": each}
