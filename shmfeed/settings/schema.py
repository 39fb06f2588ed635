"""Every setting in one table: its type, what is accepted, and the help of its option.

The value of the token is in no message, and of an endpoint only what is no secret.

The kinds of settings: how each checks a value and reads a text.

A check takes a value as Python or a file gives it and returns the value kept. A parse
turns the text of a variable or an option into such a value. Both raise BadArgumentError
with words of their own, or ValueError, TypeError, OverflowError or KeyError where the
row's `accepted` says enough.
"""

import difflib
import numbers
import os
import re
from collections.abc import Callable
from typing import NamedTuple, SupportsIndex

from shmfeed.bar import check_timeframe
from shmfeed.errors import BadArgumentError
from shmfeed.settings import endpoint
from shmfeed.validation import NO, YES, check_feed_name, check_symbol, shown

MAX_ITEMS = 10_000

_FLAGS = {
    **dict.fromkeys(YES, True),
    **dict.fromkeys(NO, False),
}
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_REAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")

Check = Callable[[object], object]
Parse = Callable[[str], object]


class Setting(NamedTuple):
    """A row of the table; `accepted` is a phrase for messages."""

    type: type
    accepted: str
    check: Check
    parse: Parse
    help: str


def commas(text: str) -> list[str]:
    """The pieces of a comma-separated text that are not blank."""
    return [piece.strip() for piece in text.split(",") if piece.strip()]


# Rows. In each, `text` is the help and `none` what the setting means without a value.


def whole(low: int, high: int, text: str, *, none: str = "") -> Setting:
    """A whole number."""
    accepted = f"a whole number from {low} to {high}"
    row = Setting(int, accepted, check_whole(low, high), parse_whole, text)
    return _optional(row, none) if none else row


def seconds(
    text: str, *, low: float = 0.001, high: float = 86_400.0, none: str = ""
) -> Setting:
    """A span of time."""
    accepted = f"a number of seconds from {low:g} to {high:g}"
    row = Setting(float, accepted, _real(low, high), _parse_real, f"{text}, seconds")
    return _optional(row, none) if none else row


def flag(text: str) -> Setting:
    """Yes or no."""
    return Setting(bool, "true or false", _check_flag, parse_flag, text)


def text_of(accepted: str, check: Check, text: str, *, none: str = "") -> Setting:
    """A text that `check` judges."""
    row = Setting(str, accepted, check, str, text)
    return _optional(row, none) if none else row


def one_of(
    words: tuple[str, ...], text: str, fold: Callable[[str], str] = str
) -> Setting:
    """One of a few words, after `fold`."""

    def check_word(value: object) -> str:
        if not isinstance(value, str) or fold(value) not in words:
            raise ValueError
        return fold(value)

    return text_of(f"one of: {' '.join(words)}", check_word, text)


def matching(pattern: str, text: str) -> Setting:
    """A text of a pattern."""
    compiled = re.compile(pattern)

    def check_match(value: object) -> str:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise ValueError
        return value

    return text_of(f"text that matches {pattern}", check_match, text)


def items(
    accepted: str,
    check_item: Check,
    text: str,
    split: Callable[[str], list[str]] = commas,
    parse: Parse = str,
) -> Setting:
    """A list, a tuple, one item, or a text of several; a tuple, each item once."""

    def check_items(value: object) -> tuple[object, ...]:
        if isinstance(value, str):
            value = split(value)
        elif not isinstance(value, list | tuple):
            value = (value,)
        if len(value) > MAX_ITEMS:
            raise BadArgumentError(f"{len(value)} items; at most {MAX_ITEMS}")
        return tuple(dict.fromkeys(map(check_item, value)))

    return Setting(tuple, accepted, check_items, parse, f"{text}, comma-separated")


def _optional(row: Setting, none: str) -> Setting:
    def check_optional(value: object) -> object:
        if value is None or (isinstance(value, str) and value.lower() == "none"):
            return None
        return row.check(value)

    def parse_optional(text: str) -> object:
        return None if text.lower() == "none" else row.parse(text)

    return row._replace(
        accepted=f"{row.accepted}, or none: {none}",
        check=check_optional,
        parse=parse_optional,
        help=f"{row.help}; none: {none}",
    )


# Checks.


def check_whole(low: int, high: int) -> Callable[[object], int]:
    """A check for a whole number between both; a bool is none."""

    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, SupportsIndex):
            raise TypeError
        number = value.__index__()
        if not low <= number <= high:
            raise ValueError
        return number

    return check


def check_secret(value: object) -> str:
    """A text of printable characters without space around it."""
    if not isinstance(value, str) or len(value) > 4096:
        raise TypeError
    if not value.isprintable() or value != value.strip():
        raise ValueError
    return "".join(value)  # a plain str, whatever subclass hid it on its way here


def check_path(value: object) -> str | None:
    """The path of a file as text; None stays None."""
    if value is None:
        return None
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(path, str) or not 0 < len(path) <= 4096 or "\0" in path:
        raise ValueError
    return path


def _real(low: float, high: float) -> Check:
    def check(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise TypeError
        number = float(value)
        if not low <= number <= high:  # NaN is in no range
            raise ValueError
        return number

    return check


def _check_flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


# Texts.


def parse_whole(text: str) -> int:
    """A whole number in ASCII digits; ValueError for anything else."""
    if not _WHOLE.fullmatch(text):
        raise ValueError
    return int(text)


def _parse_real(text: str) -> float:
    if not _REAL.fullmatch(text):
        raise ValueError
    return float(text)


def parse_flag(text: str) -> bool:
    """Yes or no; KeyError for another word."""
    return _FLAGS[text.lower()]


PROTOCOLS = ("wealthai", "binance")
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
TOKEN = "csrf_token"  # noqa: S105  the setting's name, not its value
MAX_STREAMS = MAX_ITEMS
NO_FEED = "off"  # as SHMFEED_FEED it tells strategies to use no feed
_YEAR = 365 * 86_400.0


class Option(NamedTuple):
    """A setting as an option of a command line; `type` tuple: comma-separated."""

    setting: str
    type: type
    help: str


def check(name: str, value: object) -> object:
    """The value of setting `name` as it is kept, or BadArgumentError naming both."""
    try:
        return SETTINGS[name].check(value)
    except BadArgumentError as error:
        raise BadArgumentError(f"{name}: {_short(str(error))}") from None
    except (TypeError, ValueError, OverflowError):
        raise _refusal(name, value) from None


def parse(name: str, text: str) -> object:
    """The checked value that a text stands for; errors as `check` has them."""
    try:
        value = SETTINGS[name].parse(text.strip())
    except (ValueError, KeyError):
        raise _refusal(name, text) from None
    return check(name, value)


def nearest(name: object, known: list[str]) -> str:
    """The known name most like `name`, in whatever case."""
    lower = {one.lower(): one for one in known}
    word = name if isinstance(name, str) else shown(name)
    found = difflib.get_close_matches(word[:64].lower(), lower, 1, cutoff=0.0)
    return lower[found[0]]


def _refusal(name: str, value: object) -> BadArgumentError:
    if name == TOKEN:
        text = "(its value is not shown)"
    elif name in {"endpoint", "proxy"}:
        text = f"of type {type(value).__name__}"
    else:
        text = shown(value)
    return BadArgumentError(f"{name} {text} is not accepted; {SETTINGS[name].accepted}")


def _short(message: str) -> str:
    return message if len(message) < 1000 else f"{message[:400]} ... {message[-400:]}"


def _check_feed(value: object) -> str:
    name = check_feed_name(value)
    if name.lower() == NO_FEED:
        raise BadArgumentError(
            f"{name!r} names no feed: as SHMFEED_FEED it tells strategies to use none; "
            "a feeder needs another name"
        )
    return name


def _check_endpoint(item: object) -> str:
    if not isinstance(item, str):
        kind = type(item).__name__
        raise BadArgumentError(
            f"an item of type {kind} is not accepted; {endpoint.ACCEPTED}"
        )
    return endpoint.check(item)


def _check_proxy(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return endpoint.check_proxy(value)


def _check_port(item: object) -> int:
    try:
        return check_whole(1, 65535)(item)
    except (TypeError, ValueError):
        text = f"{shown(item)} is not accepted; a port is 1 to 65535"
        raise BadArgumentError(text) from None


def _parse_ports(text: str) -> list[int]:
    return [parse_whole(piece) for piece in commas(text)]


SETTINGS: dict[str, Setting] = {
    "protocol": one_of(PROTOCOLS, "what the venue speaks"),
    "feed": text_of("the name of a feed", _check_feed, "name of the feed"),
    "symbols": items("symbols", check_symbol, "symbols to subscribe"),
    "resolutions": items("timeframes", check_timeframe, "timeframes to subscribe"),
    "endpoint": items(
        endpoint.ACCEPTED,
        _check_endpoint,
        "addresses of the venue, tried in turn; empty: the protocol's own",
        endpoint.split,
    ),
    "port": items(
        "a port or a list of ports, 1 to 65535",
        _check_port,
        "ports for endpoints that name none, tried in turn",
        parse=_parse_ports,
    ),
    TOKEN: text_of(
        "text of at most 4096 printable characters, no space around it",
        check_secret,
        "the house protocol's token",
    ),
    "market_type": matching("[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "market at the venue"),
    "history": whole(1, 10_000_000, "closed bars that a reader may ask for, a stream"),
    "guard": whole(
        1,
        10_000_000,
        "bars that may close before the oldest row of a slice is overwritten",
        none="a quarter of history, at least 16",
    ),
    "max_streams": whole(
        1, MAX_STREAMS, "room for streams", none="twice the subscribed, at least 16"
    ),
    "allow_insecure": flag("permit ws:// beyond this host"),
    "proxy": text_of(
        endpoint.PROXY_ACCEPTED,
        _check_proxy,
        "HTTP proxy to connect through; those of the environment are never used",
        none="connect directly",
    ),
    "max_redirects": whole(
        0, 5, "redirects of the handshake that are followed, with no secret elsewhere"
    ),
    "connect_timeout": seconds("limit of one attempt to connect"),
    "ack_timeout": seconds("limit of the wait for an acknowledgement"),
    "close_grace": seconds(
        "how long past its close_time a bar stays open, where the venue sends no flag",
        low=0.0,
    ),
    "data_timeout": seconds(
        "a connection that brings no data for so long is given up",
        high=_YEAR,
        none="3 times the smallest timeframe, at least 30 s",
    ),
    "heartbeat_interval": seconds("time between our pings"),
    "heartbeat_timeout": seconds(
        "limit of the wait for a sign of life, and for the rest of a message"
    ),
    "max_frame_bytes": whole(1024, 1 << 30, "largest message taken from the venue"),
    "max_reconnect_attempts": whole(
        1, 1_000_000, "consecutive failures before the feed gives up", none="for ever"
    ),
    "reconnect_delay_base": seconds("first limit of the random delay of an attempt"),
    "reconnect_delay_max": seconds("last limit of the random delay of an attempt"),
    "stop_with_manager": flag("end the feeder when its manager ends"),
    "log_level": one_of(LEVELS, "least level that is logged", str.upper),
    "log_file": text_of("the path of a file", check_path, "file to log to"),
}
# The token is none: every user of the host can read the arguments of a process.
OPTIONS = tuple(
    Option(name, row.type, row.help) for name, row in SETTINGS.items() if name != TOKEN
)
