"""The live table of a demo. It needs rich, so only a terminal's demo imports it."""

from typing import Self

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from shmfeed.demo import report
from shmfeed.demo.metrics import DemoMetrics, ReadMetrics
from shmfeed.demo.options import DemoOptions

_COLOURS = {"live": "green", "quiet": "cyan", "polled": "cyan", "closed": "dim"}
_COLOURS |= dict.fromkeys(("recovering", "waiting"), "yellow")
_BAD, _GOOD = "bold red", "bold green"
_WIDTH, _HEIGHT = 78, 22  # the height without a line for each strategy


class TableScreen(report.LineScreen):
    """A table redrawn twice a second; the summary is plain text."""

    interval = 0.5

    def __init__(self, options: DemoOptions) -> None:
        super().__init__(options)
        self._console = Console(highlight=False)
        self._live = Live(console=self._console, auto_refresh=False)

    def update(self, metrics: DemoMetrics) -> None:
        each = self._console.height >= _HEIGHT + self._options.strategies
        self._live.update(draw_table(self._options, metrics, each), refresh=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()


def draw_table(
    options: DemoOptions, metrics: DemoMetrics, each: bool = True
) -> RenderableType:
    """Return the table of this moment; `each` adds a line for each strategy."""
    parts: list[RenderableType] = [
        _progress(options, metrics),
        Text(),
        _feed_and_reads(options, metrics),
    ]
    parts += [_strategies(metrics)] if each else [Text()]
    note = Text(report.footnote(), style="dim")
    return Panel(
        Group(*parts, note),
        title="[bold]shmfeed demo",
        subtitle="Ctrl-C ends it",
        width=_WIDTH,
        box=box.ROUNDED,
    )


def _progress(options: DemoOptions, metrics: DemoMetrics) -> RenderableType:
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(ratio=1)
    grid.add_column(justify="right")
    bar = ProgressBar(options.seconds, min(metrics.elapsed, options.seconds))
    grid.add_row(bar, f"{metrics.elapsed:.0f} of {options.seconds:g} s")
    return grid


def _feed_and_reads(options: DemoOptions, metrics: DemoMetrics) -> RenderableType:
    reads = metrics.all
    pid = f"pid {metrics.pid}" if metrics.pid else "-"
    health = Text(metrics.health, style=_COLOURS.get(metrics.health, _BAD))
    bars = f"{metrics.live_bars:,} ({metrics.bars_rate:.0f}/s)"
    newest = f"{report.format_seconds(metrics.newest_age)} old"
    messages, delay = f"{metrics.messages_rate:.0f}/s", report.format_us(metrics.delay)
    rate, rows = f"{reads.rate:,.0f}/s", f"{reads.rows:,}"
    p50, p99 = report.format_ns(reads.p50), report.format_ns(reads.p99)
    grid = Table.grid(expand=True, padding=(0, 1))
    for style in ("dim", "bold", "dim", "bold"):
        grid.add_column(style=style, ratio=3 if style == "bold" else 2)
    grid.add_row("venue", options.streams, "feeder", pid)
    grid.add_row("connection", metrics.state, "health", health)
    grid.add_row("bars in", bars, "newest bar", newest)
    grid.add_row("messages in", messages, "close to read", delay)
    grid.add_row("reads", rate, "rows checked", rows)
    grid.add_row("one read, p50", p50, "torn rows", _torn(reads))
    grid.add_row("one read, p99", p99, "reconnects", str(metrics.reconnects))
    return grid


def _strategies(metrics: DemoMetrics) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, expand=True, padding=(0, 1), pad_edge=False)
    for name in ("strategy", "reads", "reads/s", "p50", "p99", "rows checked", "torn"):
        table.add_column(name, justify="right", header_style="dim")
    for number, reads in metrics.each:
        table.add_row(
            str(number),
            f"{reads.reads:,}",
            f"{reads.rate:,.0f}",
            report.format_ns(reads.p50),
            report.format_ns(reads.p99),
            f"{reads.rows:,}",
            _torn(reads),
        )
    if metrics.failures:
        table.caption = Text("\n".join(metrics.failures), style=_BAD)
    return table


def _torn(reads: ReadMetrics) -> Text:
    return Text(f"{reads.torn:,}", style=_BAD if reads.torn else _GOOD)
