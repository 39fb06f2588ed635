"""Messages of a venue, and mutations of them that know their structure.

A message is held as pairs, so a key can occur twice, with values as wire text, so a
value can be one that no encoder writes.
"""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from hypothesis import strategies as st

MINUTE = 60_000
T0 = 1_700_000_040_000
SYMBOLS = ("BTCUSDT", "ETHUSDT")
Pairs = list[tuple[str, Any]]

# Numbers that a bar can have, but rarely in this place.
NUMBERS = (
    '"95"',
    "119",
    '"121"',
    '"1"',
    '"100.6"',
    "90",
    '"-12.5"',
    "-0.5",
    "1e9",
    "2",
)
# Replacements of a value, as wire text.
ODD = (
    *("1e400", "-1e400", "NaN", "Infinity", "-Infinity", "1e-400", "1e308", "-0.0"),
    *("null", "true", "false", "[]", "{}", '""', '"x"', "0", "-1", "1.5", "7"),
    *(
        '"1e400"',
        '"NaN"',
        '"inf"',
        '"-inf"',
        '"-1"',
        '"0x10"',
        '"1_0"',
        '" 1"',
        '"1,5"',
    ),
    *("9" * 400, '"' + "9" * 400 + '"', str(2**63), str(2**63 - 1), str(-(2**63))),
    *(str(2**64), "4102444800000", "1700000040001", "1700000100000", "-60000", "1e3"),
    *('"\\ud800"', '"\\u0000"', '"\\u0661"', '"\u0661"', '"\U0001f4a9"', '"../x"'),
    *(
        '"1h"',
        '"1M"',
        '"ETHUSDT"',
        '"btcusdt"',
        '"BAR"',
        '"kline"',
        '"ERROR"',
        '"PING"',
    ),
    *("[" * 200 + "]" * 200, '{"a":' * 200 + "1" + "}" * 200, '["0","1"]', "01", "+1"),
    *("", '"', "{", '{"k":1,"k":2}', "1" + "0" * 5000, '"' + "A" * 3000 + '"', "\x00"),
)
NOISE = (
    b"\xff",
    b"\x00",
    b'"',
    b"{",
    b"}",
    b",",
    b":",
    b"\\",
    b"9",
    b"\xed\xa0\x80",
    b"",
)


class Mutation(NamedTuple):
    """One mutation of a message: its kind, its place, and the odd value."""

    how: str
    place: int
    odd: int


def wealthai_messages(number: int) -> list[Pairs]:
    """Return bar `number` in wealthai's spellings, and its server's other messages."""
    opened = T0 + number * MINUTE
    bar = {
        "type": "BAR",
        "symbol": SYMBOLS[number % 2],
        "timeframe": "1m",
        "open_time": opened,
        "close_time": opened + MINUTE,
        "open": "100.5",
        "high": 120 + number,
        "low": "90",
        "close": "101",
        "volume": "12.5",
    }
    kline = {key: bar[key] for key in bar if key != "timeframe"}
    others = (
        {"type": "PING"},
        {"type": "CONNECTED", "request_id": "1"},
        {"type": "ERROR", "message": "no such thing", "request_id": 7},
        {"type": "ERROR", "code": 7, "symbols": ["SOLUSDT"]},
        {"op": "ping"},
        {"type": "NEWS", "text": "x"},
    )
    flagged = ({**bar, "closed": True}, {**bar, "x": False}, {**bar, "money": "7"})
    numbered = {**bar, "ts": opened + 100, "seq": number, "turnover": "1260.5"}
    first = {**kline, "type": "KLINE", "resolution": "1m"}
    foreign = {**bar, "symbol": "SOLUSDT"}
    bars = (bar, *flagged, numbered, first, foreign)
    return [pairs_of(one) for one in (*bars, *others)]


def binance_messages(number: int) -> list[Pairs]:
    """Return bar `number` as Binance sends it, wrapped and raw, and other messages."""
    opened = T0 + number * MINUTE
    symbol = SYMBOLS[number % 2]
    kline = {
        "t": opened,
        "T": opened + MINUTE - 1,
        "s": symbol,
        "i": "1m",
        "f": 100 * number,
        "L": 100 * number + 99,
        "o": "100.5",
        "c": "101",
        "h": f"{120 + number}",
        "l": "90",
        "v": "12.5",
        "x": True,
        "q": "1260.5",
    }
    raw = {"e": "kline", "E": opened + 100, "s": symbol, "k": kline}
    stream = f"{symbol.lower()}@kline_1m"
    forming = {**raw, "k": {**kline, "x": False}}
    foreign = {**raw, "k": {**kline, "s": "SOLUSDT"}}
    others = (
        {"stream": "x@trade", "data": {"e": "trade", "p": "1"}},
        {"result": None, "id": 3},
        {"error": {"code": 2, "msg": "Invalid request"}, "id": 3},
        {"e": "serverShutdown", "E": opened},
    )
    bars = (
        raw,
        {"stream": stream, "data": raw},
        {"stream": stream, "data": forming},
        foreign,
    )
    return [pairs_of(one) for one in (*bars, *others)]


def pairs_of(value: Any) -> Any:
    """Return a message as nested pairs whose leaves are wire text."""
    if isinstance(value, dict):
        return [(key, pairs_of(inner)) for key, inner in value.items()]
    return json.dumps(value)


def dump(value: Any) -> str:
    if isinstance(value, str):
        return value
    inner = ",".join(f"{json.dumps(key)}:{dump(one)}" for key, one in value)
    return "{" + inner + "}"


def spoil(message: Pairs, mutations: list[Mutation]) -> bytes:
    """Return the message's bytes after these mutations."""
    copied: Pairs = _copy(message)
    done = [one for one in mutations if one.how in _ON_PAIRS]
    for how, place, odd in done:
        places = [*_places(copied)]
        if how == "number":
            places = [(owner, at) for owner, at in places if _is_number(owner[at][1])]
        if places:
            owner, index = places[place % len(places)]
            text = NUMBERS[odd % len(NUMBERS)] if how == "number" else ODD[odd]
            _ON_PAIRS[how](owner, index, text)
    data = dump(copied).encode("utf-8", "surrogatepass")
    for how, place, odd in mutations:
        if how in _ON_BYTES:
            data = _ON_BYTES[how](data, place * 7919 % (len(data) + 1), odd)
    return data


def _copy(value: Any) -> Any:
    if isinstance(value, str):
        return value
    return [(key, _copy(inner)) for key, inner in value]


def _places(pairs: Pairs) -> Any:
    """Yield each pair of a message: its list and its position."""
    for index, (_, value) in enumerate(pairs):
        yield pairs, index
        if not isinstance(value, str):
            yield from _places(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, str) and value.strip('"')[:1].isdigit()


def _replace(owner: Pairs, index: int, odd: str) -> None:
    owner[index] = owner[index][0], odd


def _drop(owner: Pairs, index: int, odd: str) -> None:
    del owner[index]


def _double(owner: Pairs, index: int, odd: str) -> None:
    owner.append((owner[index][0], odd))


def _rename(owner: Pairs, index: int, odd: str) -> None:
    key, value = owner[index]
    owner[index] = key.upper() if key.islower() else key + "\u0130", value


def _nest(owner: Pairs, index: int, odd: str) -> None:
    key, value = owner[index]
    owner[index] = key, [(key, value)]


def _quote(owner: Pairs, index: int, odd: str) -> None:
    """Return a string for a number, a number for a string."""
    key, value = owner[index]
    text = dump(value)
    owner[index] = key, text[1:-1] if text.startswith('"') else json.dumps(text)


_ON_PAIRS: dict[str, Callable[[Pairs, int, str], None]] = {
    "replace": _replace,
    "number": _replace,
    "drop": _drop,
    "double": _double,
    "rename": _rename,
    "nest": _nest,
    "quote": _quote,
}
_ON_BYTES: dict[str, Callable[[bytes, int, int], bytes]] = {
    "cut": lambda data, at, odd: data[:at],
    "noise": lambda data, at, odd: data[:at] + NOISE[odd % len(NOISE)] + data[at + 1 :],
    "twice": lambda data, at, odd: data + data,
    "list": lambda data, at, odd: b"[" + data + b"]",
    "space": lambda data, at, odd: b"\xef\xbb\xbf " + data,
    "deep": lambda data, at, odd: b'{"data":' * 300 + data + b"}" * 300,
}
HOW = ("replace", "replace", *["number"] * 4, *_ON_PAIRS, "noise", *_ON_BYTES)

mutations = st.lists(
    st.builds(
        Mutation, st.sampled_from(HOW), st.integers(0, 63), st.integers(0, len(ODD) - 1)
    ),
    max_size=2,
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "e", "k", "data", "symbol", "error", "id", "x"]),
            inner,
        )
    ),
    max_leaves=6,
)
foreign = st.binary(max_size=40) | json_values.map(lambda one: json.dumps(one).encode())
