"""What does get_price cost, beside the path that it replaces?

That path is a locked deque of dicts with prices as strings, floats made of them, and a
DataFrame with a DatetimeIndex, in two ways of writing it: the *ordinary* one (a dict of
floats a bar, `pd.to_datetime`), and the *best* one found (one pass of floats into one
array, an index over milliseconds, nothing copied twice).
"""

import hashlib
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import filled_feed
import measure
import numpy as np
import pandas as pd
import replaced
import report
from measure import Case, Question

import wealthdata

SYMBOLS, TIMEFRAME = filled_feed.SYMBOLS, filled_feed.TIMEFRAME
OURS, ORDINARY, BEST = "get_price", "ordinary", "best"
TARGETS = {20: 8, 1000: 80}  # times the replaced path, of the plain call
GetPrice = Callable[..., pd.DataFrame]

ASKED: dict[str, dict[str, Any]] = {
    "{n} rows": {},
    "{n} rows, two fields": {"fields": ["close", "volume"]},
    "{n} rows, the forming bar among them": {"include_now": True},
    "{n} rows, copy=True": {"copy": True},
    "{n} rows of each of 10 symbols": {"security": list(SYMBOLS)},
}
LABELS = {OURS: "get_price", ORDINARY: "replaced, ordinary", BEST: "replaced, best"}
QUESTIONS = tuple(
    Question(
        title.format(n=n),
        tuple(Case(LABELS[party], party, title.format(n=n)) for party in LABELS),
    )
    for n in TARGETS
    for title in ASKED
)


def calls(get_price: GetPrice) -> dict[str, Callable[[], object]]:
    """Each question as a call; `check ...` instead says what comes back."""
    found: dict[str, Callable[[], object]] = {}
    for n in TARGETS:
        for title, asked in ASKED.items():
            named = {"security": SYMBOLS[0], "count": n, "frequency": TIMEFRAME}
            named |= asked
            name = title.format(n=n)
            found[name] = lambda named=named: get_price(**named)
            found[f"check {name}"] = lambda named=named: digest(get_price(**named))
    return found


def digest(frame: pd.DataFrame) -> str:
    """The same for frames of the same shape, columns, times and values."""
    told = hashlib.sha256(repr((frame.shape, list(frame.columns))).encode())
    for name in (None, *frame.columns):
        column = frame.index if name is None else frame[name]
        if column.dtype.kind == "M":
            column = column.astype("M8[ms]").astype("int64")
        told.update(repr(column.tolist()).encode())
    return told.hexdigest()


def ours(feed: str) -> GetPrice:
    wealthdata.use(feed=feed)
    return wealthdata.get_price


def replaced_path(
    to_frame: Callable[[Sequence[replaced.PriceDict], Sequence[str]], pd.DataFrame],
    to_long: Callable[[Any, Sequence[str]], pd.DataFrame],
) -> GetPrice:
    stores = {}
    for symbol in SYMBOLS:
        bars = [replaced.as_bar(*row[:7]) for row in filled_feed.closed_bars(symbol)]
        forming = replaced.as_bar(*filled_feed.forming_bar(symbol)[:7])
        stores[symbol] = replaced.Store(bars, forming, filled_feed.HISTORY)

    def get_price(
        security: str | list[str],
        count: int,
        frequency: str,
        fields: Sequence[str] = replaced.FIELDS,
        include_now: bool = False,
        copy: bool = True,
    ) -> pd.DataFrame:
        if isinstance(security, str):
            return to_frame(stores[security].last(count, include_now), fields)
        return to_long([(one, stores[one].last(count)) for one in security], fields)

    return get_price


def ordinary(_feed: str) -> GetPrice:
    def to_frame(bars: Any, fields: Sequence[str]) -> pd.DataFrame:
        rows = [{field: float(bar[field]) for field in fields} for bar in bars]
        frame = pd.DataFrame(rows, columns=fields)
        frame.index = pd.to_datetime([bar["close_time"] for bar in bars], unit="ms")
        return frame

    def to_long(parts: Any, fields: Sequence[str]) -> pd.DataFrame:
        frames = []
        for symbol, bars in parts:
            frame = to_frame(bars, fields).rename_axis("time").reset_index()
            frame.insert(1, "code", symbol)
            frames.append(frame)
        return pd.concat(frames, ignore_index=True)

    return replaced_path(to_frame, to_long)


def best(_feed: str) -> GetPrice:
    unit = pd.to_datetime(["2024-01-01"]).dtype  # pandas' default
    columns: dict[tuple[str, ...], pd.Index] = {}

    def to_times(bars: Sequence[replaced.PriceDict]) -> pd.DatetimeIndex:
        times = map(itemgetter("close_time"), bars)
        moments = np.fromiter(times, np.int64, len(bars)).view("M8[ms]")
        return pd.DatetimeIndex(moments.astype(unit), copy=False)

    def to_frame(bars: Any, fields: Sequence[str]) -> pd.DataFrame:
        rows = replaced.float_rows(bars, fields)
        names = columns.get(tuple(fields))
        if names is None:
            names = columns[tuple(fields)] = pd.Index(fields)
        return pd.DataFrame(rows, index=to_times(bars), columns=names, copy=False)

    def to_long(parts: Any, fields: Sequence[str]) -> pd.DataFrame:
        bars = [bar for _, part in parts for bar in part]
        codes = np.repeat([one for one, _ in parts], [len(part) for _, part in parts])
        rows = replaced.float_rows(bars, fields).T
        named = {"time": to_times(bars), "code": pd.array(codes, dtype="str")}
        return pd.DataFrame(named | dict(zip(fields, rows, strict=True)))

    return replaced_path(to_frame, to_long)


PARTIES: dict[str, Callable[[str], GetPrice]] = {
    OURS: ours,
    ORDINARY: ordinary,
    BEST: best,
}


def check_alike(found: dict[str, measure.Party]) -> None:
    """All parties give the same frames, or there is nothing to compare."""
    for title, cases in QUESTIONS:
        answers = {
            case.party: found[case.party].ask(call=f"check {case.call}")["result"]
            for case in cases
        }
        if len(set(answers.values())) != 1:
            raise SystemExit(f"{title}: the answers differ: {answers}")


def verdicts(rows: Sequence[measure.Row]) -> list[str]:
    lines = [""]
    for n, target in TARGETS.items():
        for party in (ORDINARY, BEST):
            label = LABELS[party]
            row = next(
                r for r in rows if r.question == f"{n} rows" and r.label == label
            )
            times = measure.spread(row.ratio)
            word = "reached" if times.median >= target else "missed"
            lines.append(
                f"{n} rows: {times.text('.1f')} times as fast as {label};"
                f" at least {target}: {word}"
            )
    return lines


def main() -> None:
    """Ask, or answer as one of the parties."""
    options = report.arguments(__doc__).parse_args()
    if options.party is not None:
        measure.serve(calls(PARTIES[options.party](options.argument)))
        return
    with (
        filled_feed.held() as name,
        measure.parties(__file__, *PARTIES, argument=name) as found,
    ):
        check_alike(found)
        rows = measure.run(QUESTIONS, found, options.quick)
    table = [*report.timings(rows), *verdicts(rows)]
    report.report(__file__, table, [row._asdict() for row in rows], options.json)


if __name__ == "__main__":
    main()
