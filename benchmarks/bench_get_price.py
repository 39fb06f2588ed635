"""The cost of get_price, compared with the path that it replaces.

That path is a locked deque of dicts with prices as strings, converted to floats and to
a DataFrame with a DatetimeIndex. It is written in two ways: the *ordinary* one (a dict
of floats for each bar, `pd.to_datetime`), and the *best* one found (one pass of floats
into one array, an index over milliseconds, nothing copied twice).

The cost of `attrs` has two parts: their share of the call, and their share of later
pandas operations, which copy them to each frame that they make.
"""

import hashlib
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import harness
import numpy as np
import on_deque
import on_shmfeed
import pandas as pd
import report
from filled_feed import filled_feed
from harness import Call, Calls, Case, CaseTimes, Comparison, spread
from report import Goal
from sample_bars import (
    HISTORY,
    SYMBOLS,
    TIMEFRAME,
    closed_bars,
    forming_bar,
    symbol_of,
)

import wealthdata
from wealthdata import api, query
from wealthdata.price_table import NoTable

OURS, PURE, ORDINARY, BEST = "get_price", "pure get_price", "ordinary", "best"
PYTHON, BARE = "get_price by Python", "get_price by Python, without attrs"
TARGETS = {20: 40, 1000: 400}  # times the ordinary path, of the plain call
MAX_US, MAX_ATTRS_US, MAX_LATER_US = 8.0, 1.0, 10.0
GetPrice = Callable[..., pd.DataFrame]

ARGUMENTS: dict[str, dict[str, Any]] = {
    "{n} rows": {},
    "{n} rows, two fields": {"fields": ["close", "volume"]},
    "{n} rows, the forming bar among them": {"include_now": True},
    "{n} rows, copy=True": {"copy": True},
    "{n} rows of each of 10 symbols": {"security": list(SYMBOLS)},
}
LABELS = {
    OURS: "get_price",
    PURE: "pure Python: get_price",
    ORDINARY: "replaced, ordinary",
    BEST: "replaced, best",
}
COMPARISONS = tuple(
    Comparison(
        title.format(n=n),
        tuple(Case(label, name, title.format(n=n)) for name, label in LABELS.items()),
    )
    for n in TARGETS
    for title in ARGUMENTS
)

LATER: dict[str, Callable[[pd.DataFrame], object]] = {
    "df['close']": lambda df: df["close"],
    "df[['open', 'close']]": lambda df: df[["open", "close"]],
    "df['close'].rolling(5).mean()": lambda df: df["close"].rolling(5).mean(),
    "df['close'].pct_change()": lambda df: df["close"].pct_change(),
    "df.iloc[-1]": lambda df: df.iloc[-1],
    "df.tail(5)": lambda df: df.tail(5),
    "df[mask]": lambda df: df[_MASK],
    "df + 1": lambda df: df + 1,
    "df.mean()": lambda df: df.mean(),
    "df.copy()": lambda df: df.copy(),
    "df.assign(x=0.0)": lambda df: df.assign(x=0.0),
    "df.sort_index()": lambda df: df.sort_index(),
    "df.reset_index()": lambda df: df.reset_index(),
    "df.resample('4h').last()": lambda df: df.resample("4h").last(),
    "pd.concat([df, df])": lambda df: pd.concat([df, df]),
}
_MASK = np.arange(20) % 2 == 0
WITH, WITHOUT = "with attrs", "without"
SHARE = Comparison(
    "20 rows, cost of attrs",
    (
        Case("get_price, usual call by Python", PYTHON, "20 rows"),
        Case("without attrs", BARE, "20 rows"),
        Case("get_price", OURS, "20 rows"),
    ),
)
LATER_COMPARISONS = tuple(
    Comparison(
        title, (Case(WITHOUT, OURS, f"{WITHOUT} {title}"), Case(WITH, OURS, title))
    )
    for title in LATER
)


def calls(get_price: GetPrice) -> dict[str, Call]:
    """Return each case as a call; `check ...` returns a digest of the frame."""
    found: dict[str, Call] = {}
    for n in TARGETS:
        for title, arguments in ARGUMENTS.items():
            given = {"security": SYMBOLS[0], "count": n, "frequency": TIMEFRAME}
            given |= arguments
            name = title.format(n=n)
            found[name] = lambda given=given: get_price(**given)
            found[f"check {name}"] = lambda given=given: digest(get_price(**given))
    return found


def digest(frame: pd.DataFrame) -> str:
    """Return a digest of a frame's shape, columns, times and values."""
    hashed = hashlib.sha256(repr((frame.shape, list(frame.columns))).encode())
    for name in (None, *frame.columns):
        column = frame.index if name is None else frame[name]
        if column.dtype.kind == "M":
            column = column.astype("M8[ms]").astype("int64")
        hashed.update(repr(column.tolist()).encode())
    return hashed.hexdigest()


def ours(feed: str) -> GetPrice:
    wealthdata.use(feed=feed)
    return wealthdata.get_price


def by_python(feed: str) -> GetPrice:
    """Return get_price with its usual call served by Python, not by the C core."""
    api._usual_read = NoTable().read
    return ours(feed)


def bare(feed: str) -> GetPrice:
    """Return `by_python` without attrs in a cached query: not made, and not logged."""
    nothing = query.make_attrs(True, {})
    query.make_attrs = lambda bars, values: nothing
    query.CachedQuery._values = lambda *_: {}
    query.log_frame = lambda *_: None
    get_price = by_python(feed)
    for _ in range(2):  # the first call caches its query for the second
        frame = get_price(SYMBOLS[0], count=20, frequency=TIMEFRAME)
    if frame.attrs["shmfeed"] is not nothing:
        raise SystemExit("attrs are made elsewhere now; correct this benchmark")
    return get_price


def later_calls(get_price: GetPrice) -> Calls:
    """Return later operations on a frame with its attrs, and on one without."""
    frames = {}
    for which in (WITH, WITHOUT):
        frames[which] = get_price(SYMBOLS[0], count=20, frequency=TIMEFRAME)
    frames[WITHOUT].attrs = {}
    calls: dict[str, Call] = {}
    for title, later in LATER.items():
        calls[title] = lambda later=later: later(frames[WITH])
        calls[f"{WITHOUT} {title}"] = lambda later=later: later(frames[WITHOUT])
    return calls


def replaced_path(
    to_frame: Callable[[Sequence[on_deque.BarDict], Sequence[str]], pd.DataFrame],
    to_long: Callable[[Any, Sequence[str]], pd.DataFrame],
    streams: int = len(SYMBOLS),
    history: int = HISTORY,
) -> GetPrice:
    stores = {}
    for number in range(streams):
        symbol = SYMBOLS[number % len(SYMBOLS)]  # as filled_feed does
        closed = closed_bars(symbol)[-history * 5 // 4 :]
        bars = [on_deque.bar_dict(*bar[:7]) for bar in closed]
        forming = on_deque.bar_dict(*forming_bar(symbol)[:7])
        stores[symbol_of(number)] = on_deque.DequeStore(bars, forming, history)

    def get_price(
        security: str | list[str],
        count: int,
        frequency: str,
        fields: Sequence[str] = on_deque.FIELDS,
        include_now: bool = False,
        copy: bool = True,
    ) -> pd.DataFrame:
        if isinstance(security, str):
            return to_frame(stores[security].last(count, include_now), fields)
        return to_long([(one, stores[one].last(count)) for one in security], fields)

    return get_price


def ordinary(_feed: str, **stores: int) -> GetPrice:
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

    return replaced_path(to_frame, to_long, **stores)


def best(_feed: str) -> GetPrice:
    unit = pd.to_datetime(["2024-01-01"]).dtype  # pandas' default
    columns: dict[tuple[str, ...], pd.Index] = {}

    def to_times(bars: Sequence[on_deque.BarDict]) -> pd.DatetimeIndex:
        times = map(itemgetter("close_time"), bars)
        moments = np.fromiter(times, np.int64, len(bars)).view("M8[ms]")
        return pd.DatetimeIndex(moments.astype(unit), copy=False)

    def to_frame(bars: Any, fields: Sequence[str]) -> pd.DataFrame:
        rows = on_deque.float_rows(bars, fields)
        names = columns.get(tuple(fields))
        if names is None:
            names = columns[tuple(fields)] = pd.Index(fields)
        return pd.DataFrame(rows, index=to_times(bars), columns=names, copy=False)

    def to_long(parts: Any, fields: Sequence[str]) -> pd.DataFrame:
        bars = [bar for _, part in parts for bar in part]
        codes = np.repeat([one for one, _ in parts], [len(part) for _, part in parts])
        rows = on_deque.float_rows(bars, fields).T
        named = {"time": to_times(bars), "code": pd.array(codes, dtype="str")}
        return pd.DataFrame(named | dict(zip(fields, rows, strict=True)))

    return replaced_path(to_frame, to_long)


CONTENDERS: dict[str, Callable[[str], GetPrice]] = {
    OURS: ours,
    PYTHON: by_python,
    BARE: bare,
    PURE: ours,
    ORDINARY: ordinary,
    BEST: best,
}


def check_same_frames(
    found: dict[str, harness.Contender],
    comparisons: Sequence[Comparison] = COMPARISONS,
) -> None:
    """Exit if two contenders return different frames."""
    for title, cases in comparisons:
        answers = {
            case.contender: found[case.contender].ask(call=f"check {case.call}")[
                "result"
            ]
            for case in cases
            if case.contender in found
        }
        if len(set(answers.values())) != 1:
            raise SystemExit(f"{title}: the frames differ: {answers}")


def goals(rows: Sequence[CaseTimes], later: Sequence[CaseTimes]) -> list[Goal]:
    found = []
    for n, target in TARGETS.items():
        own = report.find(rows, f"{n} rows", LABELS[OURS])
        took = spread([ns / 1000 for ns in own.net])
        found.append(report.under(f"get_price(count={n})", took, MAX_US, "us", ".2f"))
        other = report.find(rows, f"{n} rows", LABELS[ORDINARY])
        best = spread(report.find(rows, f"{n} rows", LABELS[BEST]).ratio)
        goal = report.times_faster(
            f"get_price(count={n}) beside the replaced path", other, own, target
        )
        note = f"; compared with the best way {best.text('.1f')} x"
        found.append(goal._replace(value=goal.value + note))
    return [*found, _share_goal(rows), _later_goal(later)]


def _share_goal(rows: Sequence[CaseTimes]) -> Goal:
    whole, less, _ = (
        report.find(rows, SHARE.title, case.label) for case in SHARE.cases
    )
    share = [(w - n) / 1000 for w, n in zip(whole.net, less.net, strict=True)]
    what = "attrs in get_price(count=20)"
    return report.under(what, spread(share), MAX_ATTRS_US, "us", ".2f")


def _later_goal(later: Sequence[CaseTimes]) -> Goal:
    """Return the goal of the operation to which attrs add most."""
    added = {
        title: spread(
            [
                (more - less) / 1000
                for less, more in zip(
                    report.find(later, title, WITHOUT).net,
                    report.find(later, title, WITH).net,
                    strict=True,
                )
            ]
        )
        for title in LATER
    }
    title = max(added, key=lambda title: added[title].median)
    what = f"attrs in a later pandas operation, the most of {len(LATER)}: {title}"
    return report.under(what, added[title], MAX_LATER_US, "us more", ".2f")


def main() -> None:
    """Measure all contenders, or serve as one of them."""
    options = report.argument_parser(__doc__).parse_args()
    if options.contender is not None:
        get_price = CONTENDERS[options.contender](options.argument)
        more = later_calls(get_price) if options.contender == OURS else {}
        harness.serve({**calls(get_price), **more})
        return
    missing = report.renamed(on_shmfeed.missing(), {on_shmfeed.PURE: PURE})
    names = [name for name in CONTENDERS if name not in missing]
    with (
        filled_feed() as name,
        harness.contenders(__file__, *names, argument=name, pure=[PURE]) as found,
    ):
        check_same_frames(found)
        rows = harness.compare((*COMPARISONS, SHARE), found, options.quick)
        later = harness.compare(LATER_COMPARISONS, found, options.quick)
    results = {"rows": report.to_json(rows), "later": report.to_json(later)}
    lines = report.timing_lines([*rows, *later], missing)
    report.print_report(
        __file__, lines, results, options.json, goals(rows, later), missing
    )


if __name__ == "__main__":
    main()
