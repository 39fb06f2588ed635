"""What does get_price cost, beside the path that it replaces?

That path is a locked deque of dicts with prices as strings, floats made of them, and a
DataFrame with a DatetimeIndex, in two ways of writing it: the *ordinary* one (a dict of
floats a bar, `pd.to_datetime`), and the *best* one found (one pass of floats into one
array, an index over milliseconds, nothing copied twice).

What `attrs` cost is told twice: their share of the call, and what they add to later
pandas operations, which hand them on to each frame that they make.
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
import rings
from measure import Call, Calls, Case, Question, Row, spread
from report import Goal

import wealthdata
from wealthdata import query

SYMBOLS, TIMEFRAME = filled_feed.SYMBOLS, filled_feed.TIMEFRAME
OURS, PURE, ORDINARY, BEST = "get_price", "pure get_price", "ordinary", "best"
SPARE = "get_price that says nothing"  # of where its bars come from
TARGETS = {20: 40, 1000: 400}  # times the ordinary path, of the plain call
MOST_US, MOST_ATTRS_US, MOST_LATER_US = 8.0, 1.0, 10.0
GetPrice = Callable[..., pd.DataFrame]

ASKED: dict[str, dict[str, Any]] = {
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
QUESTIONS = tuple(
    Question(
        title.format(n=n),
        tuple(Case(LABELS[party], party, title.format(n=n)) for party in LABELS),
    )
    for n in TARGETS
    for title in ASKED
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
SHARE = Question(
    "20 rows, what attrs cost",
    (
        Case("get_price", OURS, "20 rows"),
        Case("without what it says", SPARE, "20 rows"),
    ),
)
LATER_QUESTIONS = tuple(
    Question(
        title, (Case(WITHOUT, OURS, f"{WITHOUT} {title}"), Case(WITH, OURS, title))
    )
    for title in LATER
)


def calls(get_price: GetPrice) -> dict[str, Call]:
    """Each question as a call; `check ...` instead says what comes back."""
    found: dict[str, Call] = {}
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


def spare(feed: str) -> GetPrice:
    """Ours, with what makes a frame's attrs taken out of the short way of a call."""
    nothing = query.make_attrs(True, {})
    query.make_attrs = lambda bars, values: nothing
    query.CachedQuery._values = lambda *_: {}
    get_price = ours(feed)
    for _ in range(2):  # the first call takes the long way, and remembers the short
        frame = get_price(SYMBOLS[0], count=20, frequency=TIMEFRAME)
    if frame.attrs["shmfeed"]:
        raise SystemExit("what a frame says is made elsewhere by now")
    return get_price


def later_calls(get_price: GetPrice) -> Calls:
    """Later operations on a frame with its attrs, and on the same one without."""
    frames = {}
    for how in (WITH, WITHOUT):
        frames[how] = get_price(SYMBOLS[0], count=20, frequency=TIMEFRAME)
    frames[WITHOUT].attrs = {}
    calls: dict[str, Call] = {}
    for title, later in LATER.items():
        calls[title] = lambda later=later: later(frames[WITH])
        calls[f"{WITHOUT} {title}"] = lambda later=later: later(frames[WITHOUT])
    return calls


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
    SPARE: spare,
    PURE: ours,
    ORDINARY: ordinary,
    BEST: best,
}


def check_alike(found: dict[str, measure.Party]) -> None:
    """All parties give the same frames, or there is nothing to compare."""
    for title, cases in QUESTIONS:
        answers = {
            case.party: found[case.party].ask(call=f"check {case.call}")["result"]
            for case in cases
            if case.party in found
        }
        if len(set(answers.values())) != 1:
            raise SystemExit(f"{title}: the answers differ: {answers}")


def goals(rows: Sequence[Row], later: Sequence[Row]) -> list[Goal]:
    found = []
    for n, target in TARGETS.items():
        own = report.find(rows, f"{n} rows", LABELS[OURS])
        took = spread([ns / 1000 for ns in own.net])
        found.append(report.under(f"get_price(count={n})", took, MOST_US, "us", ".2f"))
        other = report.find(rows, f"{n} rows", LABELS[ORDINARY])
        best = spread(report.find(rows, f"{n} rows", LABELS[BEST]).ratio)
        goal = report.against(
            f"get_price(count={n}) beside the replaced path", other, own, target
        )
        note = f"; beside the best way of it {best.text('.1f')} x"
        found.append(goal._replace(value=goal.value + note))
    return [*found, _share_goal(rows), _later_goal(later)]


def _share_goal(rows: Sequence[Row]) -> Goal:
    whole, less = (report.find(rows, SHARE.title, case.label) for case in SHARE.cases)
    share = [(w - n) / 1000 for w, n in zip(whole.net, less.net, strict=True)]
    what = "attrs in get_price(count=20)"
    return report.under(what, spread(share), MOST_ATTRS_US, "us", ".2f")


def _later_goal(later: Sequence[Row]) -> Goal:
    """Of the operation to which attrs add most."""
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
    return report.under(what, added[title], MOST_LATER_US, "us more", ".2f")


def main() -> None:
    """Ask, or answer as one of the parties."""
    options = report.arguments(__doc__).parse_args()
    if options.party is not None:
        get_price = PARTIES[options.party](options.argument)
        more = later_calls(get_price) if options.party == OURS else {}
        measure.serve({**calls(get_price), **more})
        return
    missing = report.renamed(rings.missing(), {rings.PURE: PURE})
    names = [name for name in PARTIES if name not in missing]
    with (
        filled_feed.held() as name,
        measure.parties(__file__, *names, argument=name, pure=[PURE]) as found,
    ):
        check_alike(found)
        rows = measure.run((*QUESTIONS, SHARE), found, options.quick)
        later = measure.run(LATER_QUESTIONS, found, options.quick)
    results = {"rows": report.told(rows), "later": report.told(later)}
    lines = report.timings([*rows, *later], missing)
    told = goals(rows, later)
    report.report(__file__, lines, results, options.json, told, missing)


if __name__ == "__main__":
    main()
