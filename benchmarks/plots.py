"""Plots of the results, as PNG and SVG; none without matplotlib."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from histogram import Histogram

Found = Mapping[str, Any]
# Okabe and Ito's colours, which colour-blind readers can tell apart; so are the dashes.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":")
WIDTH, HEIGHT = 8.0, 5.2  # inches


def _style(number: int) -> dict[str, Any]:
    return {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": DASHES[number % len(DASHES)],
        "linewidth": 1.8,
    }


def _distribution(axes: Any, named: Mapping[str, Histogram], unit_ns: float) -> None:
    """Draw a curve for each histogram: the share of calls that took no longer."""
    for number, (name, histogram) in enumerate(named.items()):
        steps = histogram.steps()
        x = [value / unit_ns for value, _ in steps]
        y = [below for _, below in steps]
        axes.step([x[0], *x], [0, *y], where="post", label=name, **_style(number))
    axes.set_xscale("log")
    _label_plainly(axes.xaxis)
    axes.set_ylabel("share that took no longer")
    axes.set_ylim(0, 1.02)
    axes.grid(visible=True, which="major", alpha=0.3)


def _label_plainly(axis: Any) -> None:
    """Label a logarithmic axis with plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 3), numticks=30))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.set_minor_formatter(NullFormatter())


def _legend_below(axes: Any) -> None:
    axes.figure.legend(loc="outside lower center", ncols=2, frameon=False)


def read_latency(axes: Any, found: Found) -> None:
    curves = found["results"]["distributions"]
    named = {name: Histogram.from_json(curve) for name, curve in curves.items()}
    _distribution(axes, named, 1000)
    axes.set_xlabel("one read of 20 bars, including the clock's own cost [µs]")
    ends = [histogram.quantile(0.98) for histogram in named.values()]
    axes.set_xlim(0.03, max(ends) / 1000 * 1.5)
    _legend_below(axes)


def wake_latency(axes: Any, found: Found) -> None:
    named = {
        name: Histogram.from_json(one["histogram"])
        for name, one in found["results"].items()
    }
    _distribution(axes, named, 1000)
    axes.set_xlabel("from the store until another process has the bar [µs]")
    starts = [histogram.quantile(0.002) for histogram in named.values()]
    ends = [histogram.quantile(0.98) for histogram in named.values()]
    axes.set_xlim(min(starts) / 1000 * 0.8, max(ends) / 1000 * 1.5)
    _legend_below(axes)


def _costs(axes: Any, rows: list[dict[str, Any]], labels: Mapping[str, str]) -> None:
    for number, (read, label) in enumerate(labels.items()):
        chosen = [row for row in rows if row["read"] == read]
        x = [row["size"] for row in chosen]
        middle, low, high = zip(*(row["us"] for row in chosen), strict=True)
        axes.fill_between(x, low, high, alpha=0.2, color=COLOURS[number], linewidth=0)
        axes.plot(x, middle, marker="o", markersize=4, label=label, **_style(number))
    sizes = sorted({row["size"] for row in rows})
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.set_xticks([], minor=True)
    axes.set_ylabel("one read [µs], median and quartiles")
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, which="major", alpha=0.3)
    _legend_below(axes)


def read_cost_by_readers(axes: Any, found: Found) -> None:
    labels = {"view(20).values": "view(20).values"}
    _costs(axes, found["results"]["readers"], labels)
    axes.set_xlabel("processes attached, all but one asleep between reads")


def read_cost_by_streams(axes: Any, found: Found) -> None:
    labels = {
        "view(20).values": "view(20).values of one stream",
        "in turn, view(20).values": "view(20).values of all in turn",
        "snapshot(20)": "snapshot(20) of one stream",
        "in turn, snapshot(20)": "snapshot(20) of all in turn",
    }
    _costs(axes, found["results"]["streams"], labels)
    axes.set_xlabel("streams of the feed")


def waiting_readers(axes: Any, found: Found) -> None:
    rows = found["results"]
    for number, action in enumerate(dict.fromkeys(row["action"] for row in rows)):
        chosen = [row for row in rows if row["action"] == action]
        x = range(len(chosen))
        middle, low, high = zip(*(row["us"] for row in chosen), strict=True)
        axes.fill_between(x, low, high, alpha=0.2, color=COLOURS[number], linewidth=0)
        axes.plot(x, middle, marker="o", markersize=4, label=action, **_style(number))
        axes.set_xticks(x, [str(row["readers"]) for row in chosen])
    axes.set_yscale("log")
    _label_plainly(axes.yaxis)
    axes.set_xlabel("processes asleep in ring.wait()")
    axes.set_ylabel("cost for the writer [µs], median and quartiles")
    axes.grid(visible=True, which="major", alpha=0.3)
    _legend_below(axes)


# File name: (benchmark, title, function that draws).
PLOTS: dict[str, tuple[str, str, Callable[[Any, Found], None]]] = {
    "read_latency": ("bench_read", "Latency of a read", read_latency),
    "wake_latency": (
        "bench_wakeup",
        "Latency of a wake",
        wake_latency,
    ),
    "read_cost_by_readers": (
        "bench_scaling",
        "Cost of a read by number of readers",
        read_cost_by_readers,
    ),
    "read_cost_by_streams": (
        "bench_scaling",
        "Cost of a read by number of streams",
        read_cost_by_streams,
    ),
    "waiting_readers": (
        "bench_waiters",
        "Cost of waiting readers for the writer",
        waiting_readers,
    ),
}


def draw(into: Path, found: Mapping[str, Found]) -> dict[str, str]:
    """Draw each plot that has results; return titles and file names without suffix."""
    if find_spec("matplotlib") is None:
        print("no plots: the package matplotlib is not installed")
        return {}
    drawn = {}
    for name, (benchmark, title, plot) in PLOTS.items():
        if benchmark in found:
            _draw(into / name, title, plot, found[benchmark])
            drawn[title] = name
    return drawn


def _draw(
    path: Path, title: str, plot: Callable[[Any, Found], None], found: Found
) -> None:
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    options = {"svg.hashsalt": "shmfeed", "svg.fonttype": "none", "font.size": 10}
    with mpl.rc_context(options):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        plot(axes, found)
        machine = found["machine"]
        subtitle = f"{machine['CPU']}, {machine['cores']} cores, core {machine['core']}"
        axes.set_title(f"{title}\n", fontsize=12, loc="left")
        axes.text(0, 1.02, subtitle, transform=axes.transAxes, fontsize=8, color="#555")
        figure.savefig(path.with_suffix(".png"), dpi=110)
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
