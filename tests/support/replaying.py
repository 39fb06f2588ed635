"""Replays in tests: files of bars, recordings of frames, and what a strategy reads."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from shmfeed.bar import CLOSED_BY_VENUE, Bar, close_time, duration
from wealthdata import Context, clear_context, get_price, set_context
from wealthdata.runner.steps import Mode, Step

START = 1_767_225_600_000  # 2026-01-01 UTC
COLUMNS = "symbol,timeframe,open_time,close_time,open,high,low,close,volume,money,flags"
FIELDS = ["open", "high", "low", "close", "volume", "money", "open_time", "flags"]


class Seen(NamedTuple):
    """The bars of a step, and a read of them.

    Attributes:
        closes: The symbols and timeframes of its bars.
        lacking: The symbols that it lacks.
        rows: The rows of its first symbol, as CSV.
        attrs: The attributes of the frame.
    """

    closes: list[tuple[str, str]]
    lacking: tuple[str, ...]
    rows: str
    attrs: dict[str, Any]


def make_bar(number: int, timeframe: str = "1m", price: float = 100.0) -> Bar:
    """Return the bar of this number from START on; its values tell the number."""
    opened = START + number * duration(timeframe)
    close = price + number
    return Bar(
        opened,
        close_time(opened, timeframe),
        close - 0.5,
        close + 1.0,
        close - 1.0,
        close,
        10.0 + number,
        float(number),
        CLOSED_BY_VENUE,
    )


def write_bars(path: Path, streams: dict[tuple[str, str], Iterable[Bar]]) -> str:
    """Write a file of bars with `export`'s columns. Return its path."""
    lines = [COLUMNS]
    for (symbol, timeframe), bars in streams.items():
        lines += [",".join(map(str, (symbol, timeframe, *bar))) for bar in bars]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def kline(bar: Bar, symbol: str, timeframe: str, closed: bool, event: int) -> str:
    """Return a bar as Binance sends it."""
    return json.dumps(
        {
            "e": "kline",
            "E": event,
            "s": symbol,
            "k": {
                "t": bar.open_time,
                "T": bar.close_time - 1,
                "s": symbol,
                "i": timeframe,
                "f": 1,
                "L": 2,
                "o": str(bar.open),
                "c": str(bar.close),
                "h": str(bar.high),
                "l": str(bar.low),
                "v": str(bar.volume),
                "n": 2,
                "x": closed,
                "q": str(bar.money),
                "V": "0",
                "Q": "0",
                "B": "0",
            },
        }
    )


def write_frames(
    path: Path,
    frames: Iterable[tuple[float, str]],
    streams: Sequence[tuple[str, str]],
    protocol: str = "binance",
    extra: Iterable[tuple[float, dict[str, Any]]] = (),
) -> str:
    """Write a recording of one connection with these frames. Return its path.

    Times are in seconds from START on. `extra` are further notes.
    """
    begin = START / 1000
    lines: list[tuple[float, str]] = [
        (0.0, f"# {begin:.6f} " + json.dumps({"open": 1, "date": int(begin)})),
        (0.0, f"# {begin:.6f} " + json.dumps({"streams": 1, "keys": list(streams)})),
    ]
    lines += [(at, f"{begin + at:.6f}: {payload}") for at, payload in frames]
    lines += [(at, f"# {begin + at:.6f} {json.dumps(note)}") for at, note in extra]
    lines.sort(key=lambda line: line[0])
    head = f"ws://127.0.0.1:1 {json.dumps({'protocol': protocol, 'recording': 1})}"
    path.write_text("\n".join([head, *(line for _, line in lines)]) + "\n")
    return str(path)


def run_steps(
    mode: Mode, look: Callable[[Any], None] = lambda _item: None, count: int = 10
) -> Iterator[tuple[int, Seen]]:
    """Run a mode as the runner does, with a read at each step; yield what is seen."""
    with mode:
        context = Context(run_params=SimpleNamespace(type=mode.run_type))
        set_context(context)
        try:
            for item in mode.steps():
                look(item)
                if not isinstance(item, Step):
                    continue
                moment = datetime.fromtimestamp(item.close_time / 1000, UTC)
                context.current_dt = moment.replace(tzinfo=None)
                closed = item.closed[0]
                frame = get_price(
                    closed.symbol,
                    count=count,
                    frequency=closed.timeframe,
                    fields=FIELDS,
                )
                yield (
                    item.close_time,
                    Seen(
                        [one[:2] for one in item.closed],
                        item.lacking,
                        frame.to_csv(),
                        dict(frame.attrs["shmfeed"]),
                    ),
                )
        finally:
            clear_context()
