"""The live table of a demo, drawn with rich."""

from typing import Self

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from shmfeed.demo import report
from shmfeed.demo.metrics import Figures, Reads
from shmfeed.demo.options import RESOLUTIONS, Plan
from shmfeed.demo.report import PlainScreen

_COLOURS = {"live": "green", "quiet": "cyan", "recovering": "yellow"}
_BAD, _GOOD = "bold red", "bold green"
_WIDTH, _HEIGHT = 78, 22  # the height without the strategies' lines


class TableScreen(PlainScreen):
    """Redrawn twice a second; the summary is plain text."""

    interval = 0.5

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._console = Console(highlight=False)
        self._live = Live(console=self._console, auto_refresh=False)

    def show(self, figures: Figures) -> None:
        room = self._console.height >= _HEIGHT + self._plan.strategies
        picture = drawn(self._plan, figures, each=room)
        self._live.update(picture, refresh=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()


def drawn(plan: Plan, figures: Figures, each: bool = True) -> RenderableType:
    """One picture of the demo, with `each` strategy on its own or all together."""
    parts: list[RenderableType] = [
        _progress(plan, figures),
        Text(),
        _facts(plan, figures),
    ]
    parts += [_strategies(figures)] if each else [Text()]
    note = Text(report.footnote(), style="dim")
    return Panel(
        Group(*parts, note),
        title="[bold]shmfeed demo",
        subtitle="Ctrl-C ends it",
        width=_WIDTH,
        box=box.ROUNDED,
    )


def _progress(plan: Plan, figures: Figures) -> RenderableType:
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(ratio=1)
    grid.add_column(justify="right")
    bar = ProgressBar(plan.seconds, min(figures.elapsed, plan.seconds))
    grid.add_row(bar, f"{figures.elapsed:.0f} of {plan.seconds:g} s")
    return grid


def _facts(plan: Plan, figures: Figures) -> RenderableType:
    reads = figures.all
    streams = f"{len(plan.symbols)} symbols x {' '.join(RESOLUTIONS)}"
    health = Text(figures.health, style=_COLOURS.get(figures.health, _BAD))
    torn = Text(f"{reads.torn:,}", style=_BAD if reads.torn else _GOOD)
    grid = Table.grid(expand=True, padding=(0, 1))
    for style in ("dim", "bold", "dim", "bold"):
        grid.add_column(style=style, ratio=3 if style == "bold" else 2)
    rows: list[tuple[str, str | Text, str, str | Text]] = [
        ("venue", streams, "feeder", f"pid {figures.pid}" if figures.pid else "-"),
        ("connection", figures.state, "health", health),
        (
            "bars in",
            f"{figures.live_bars:,} ({figures.bars_rate:.0f}/s)",
            "newest bar",
            f"{report.seconds(figures.newest_age)} old",
        ),
        ("messages in", f"{figures.messages_rate:.0f}/s", *_delay(figures)),
        ("reads", f"{reads.rate:,.0f}/s", "rows checked", f"{reads.rows:,}"),
        ("one read, p50", report.micros(reads.p50), "torn rows", torn),
        ("one read, p99", report.micros(reads.p99), *_reconnects(figures)),
    ]
    for row in rows:
        grid.add_row(*row)
    return grid


def _delay(figures: Figures) -> tuple[str, str]:
    return "close to read", report.millis(figures.delay)


def _reconnects(figures: Figures) -> tuple[str, str]:
    return "reconnects", str(figures.reconnects)


def _strategies(figures: Figures) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, expand=True, padding=(0, 1), pad_edge=False)
    for name in ("strategy", "reads", "reads/s", "p50", "p99", "rows checked", "torn"):
        table.add_column(name, justify="right", header_style="dim")
    for number, reads in figures.each:
        table.add_row(*_cells(number, reads))
    if figures.failures:
        table.caption = Text("\n".join(figures.failures), style=_BAD)
    return table


def _cells(number: int, reads: Reads) -> tuple[str | Text, ...]:
    return (
        str(number),
        f"{reads.reads:,}",
        f"{reads.rate:,.0f}",
        report.micros(reads.p50),
        report.micros(reads.p99),
        f"{reads.rows:,}",
        Text(f"{reads.torn:,}", style=_BAD if reads.torn else _GOOD),
    )
