"""A chart as a PNG image. It needs matplotlib, which is optional."""

from importlib import import_module
from typing import IO, Any

from shmfeed.errors import ShmfeedError
from shmfeed.observe.chart_data import ChartData, describe_hole, missing_opens

_UP, _DOWN, _HOLE = "#26a69a", "#ef5350", "#f5a623"
_SIZE = (12.0, 6.75)  # inches, at 100 dots each
_DOTS = 100
_LABELS = 8
_MOST_NOTES = 3


class ChartError(ShmfeedError):
    """A chart could not be drawn."""


def write_chart_image(chart: ChartData, stream: IO[bytes]) -> None:
    """Write the chart as a PNG. Raise ChartError if matplotlib is not installed."""
    figure_of, canvas_of = _load()
    figure = figure_of(figsize=_SIZE, dpi=_DOTS, layout="constrained")
    canvas_of(figure)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    # Bars stand side by side, as the missing ones do: weekends take no room.
    opens = [bar.open_time for bar in chart.bars]
    missing = [at for hole in chart.holes for at in missing_opens(hole)]
    places = {at: place for place, at in enumerate(sorted({*opens, *missing}))}
    _draw_bars(upper, lower, chart, places)
    for at in missing:
        upper.axvspan(places[at] - 0.5, places[at] + 0.5, color=_HOLE, alpha=0.25, lw=0)
    upper.set_title(f"{chart.title}\n{chart.subtitle}", fontsize=10, loc="left")
    notes = [describe_hole(hole) for hole in chart.holes[:_MOST_NOTES]]
    more = len(chart.holes) - _MOST_NOTES
    notes += [f"and {more} more holes"] if more > 0 else []
    lower.set_xlabel("\n".join(notes), fontsize=8)
    lower.set_ylabel("volume")
    _label_times(lower, places)
    figure.savefig(stream, format="png")


def _load() -> tuple[Any, Any]:
    try:
        figure: Any = import_module("matplotlib.figure")
        agg: Any = import_module("matplotlib.backends.backend_agg")
    except ImportError as error:
        raise ChartError(
            "a PNG needs matplotlib, which is not installed: pip install matplotlib, or"
            " write an .html file"
        ) from error
    return figure.Figure, agg.FigureCanvasAgg


def _draw_bars(
    upper: Any, lower: Any, chart: ChartData, places: dict[int, int]
) -> None:
    if not chart.bars:
        return
    at = [places[bar.open_time] for bar in chart.bars]
    colours = [_UP if bar.close >= bar.open else _DOWN for bar in chart.bars]
    lows, highs = [bar.low for bar in chart.bars], [bar.high for bar in chart.bars]
    upper.vlines(at, lows, highs, color=colours, linewidth=0.8)
    bottoms = [min(bar.open, bar.close) for bar in chart.bars]
    heights = [abs(bar.close - bar.open) for bar in chart.bars]
    upper.bar(at, heights, 0.7, bottoms, color=colours)
    lower.bar(at, [bar.volume for bar in chart.bars], 0.7, color=colours)


def _label_times(axis: Any, places: dict[int, int]) -> None:
    from datetime import UTC, datetime  # noqa: PLC0415 # for images alone

    opens = list(places)
    ticks = opens[:: max(1, len(opens) // _LABELS)]
    texts = [
        f"{datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%d\n%H:%M}" for at in ticks
    ]
    axis.set_xticks([places[at] for at in ticks], texts, fontsize=8)
