"""The schema of the settings: one row each, with its type, its checks and its help.

A row's `check` validates a value of Python or of a file, and returns the value to
store. Its `parse` converts the text of a variable or an option to such a value. Both
raise BadArgumentError with a message of their own, or ValueError, TypeError,
OverflowError or KeyError if the message can be made from the row's `accepted`.

No message holds the value of the token, and of an endpoint none shows a secret part.
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
from shmfeed.text import repr_short, shorten
from shmfeed.validation import (
    FEED_VARIABLE,
    NO,
    NO_FEED,
    YES,
    check_feed_name,
    check_symbol,
    names_no_feed,
)

MAX_ITEMS = 10_000
MAX_STREAMS = MAX_ITEMS
PROTOCOLS = ("wealthai", "binance")
DEFAULT_MARKET_TYPE = "binance-testnet"
SEQUENCES = ("auto", "connection", "stream", "off")
REFUSAL_POLICIES = ("skip", "fail")
LAUNCH_POLICIES = ("auto", "never")
LOG_FORMATS = ("text", "json")
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
TOKEN = "csrf_token"  # noqa: S105  the setting's name, not its value

_YEAR = 365 * 86_400.0
_FLAGS = dict.fromkeys(YES, True) | dict.fromkeys(NO, False)
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_REAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")

Check = Callable[[object], object]
Parse = Callable[[str], object]


class Setting(NamedTuple):
    """A row of the schema.

    `annotation` is the type of the keyword argument, `accepted` a phrase for messages.
    """

    type: type
    annotation: str
    accepted: str
    check: Check
    parse: Parse
    help: str


class Option(NamedTuple):
    """A setting as an option of a command line; a tuple's text has commas."""

    setting: str
    type: type
    help: str


def check_setting(name: str, value: object) -> object:
    """Return the value of setting `name` to keep, or raise BadArgumentError."""
    try:
        return SETTINGS[name].check(value)
    except BadArgumentError as error:
        raise BadArgumentError(f"{name}: {shorten(str(error))}") from None
    except (TypeError, ValueError, OverflowError):
        raise _refusal(name, value) from None


def parse_setting(name: str, text: str) -> object:
    """Return the checked value of a text, or raise BadArgumentError."""
    try:
        value = SETTINGS[name].parse(text.strip())
    except (ValueError, KeyError):
        raise _refusal(name, text) from None
    return check_setting(name, value)


def nearest(name: object, known: list[str]) -> str:
    """Return the known name most like `name`, ignoring case."""
    lower = {name.lower(): name for name in known}
    word = name if isinstance(name, str) else repr_short(name)
    found = difflib.get_close_matches(word[:64].lower(), lower, 1, cutoff=0.0)
    return lower[found[0]]


def _refusal(name: str, value: object) -> BadArgumentError:
    if name == TOKEN:
        text = "(its value is not shown)"
    elif name in {"endpoint", "proxy"}:
        text = f"of type {type(value).__name__}"
    else:
        text = repr_short(value)
    return BadArgumentError(f"{name} {text} is not accepted; {SETTINGS[name].accepted}")


# Kinds of settings. `text` is the row's help; `none` says what an absent value means.


def integer(low: int, high: int, text: str, *, none: str = "") -> Setting:
    """Return the row of an integer in [low, high]."""
    accepted = f"an integer from {low} to {high}"
    row = Setting(int, "int", accepted, check_integer(low, high), parse_integer, text)
    return _optional(row, none) if none else row


def seconds(
    text: str, *, low: float = 0.001, high: float = 86_400.0, none: str = ""
) -> Setting:
    """Return the row of a span of time."""
    accepted = f"a number of seconds from {low:g} to {high:g}"
    row = Setting(
        float, "float", accepted, _real(low, high), _parse_real, f"{text}, seconds"
    )
    return _optional(row, none) if none else row


def flag(text: str) -> Setting:
    """Return the row of a setting that is true or false."""
    return Setting(bool, "bool", "true or false", _check_flag, parse_flag, text)


def text_setting(
    accepted: str,
    check: Check,
    text: str,
    *,
    none: str = "",
    annotation: str = "str",
) -> Setting:
    """Return the row of a text that `check` validates."""
    row = Setting(str, annotation, accepted, check, str, text)
    return _optional(row, none) if none else row


def one_of(
    words: tuple[str, ...], text: str, fold: Callable[[str], str] = str
) -> Setting:
    """Return the row of one of a few words, compared after `fold`."""

    def check_word(value: object) -> str:
        if not isinstance(value, str) or fold(value) not in words:
            raise ValueError
        return fold(value)

    spellings = dict.fromkeys([*words, *(word.lower() for word in words)])
    choices = ", ".join(f'"{word}"' for word in spellings if fold(word) in words)
    return text_setting(
        f"one of: {' '.join(words)}",
        check_word,
        text,
        annotation=f"Literal[{choices}]",
    )


def matching(pattern: str, text: str) -> Setting:
    """Return the row of a text that matches a pattern."""
    compiled = re.compile(pattern)

    def check_match(value: object) -> str:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise ValueError
        return value

    return text_setting(f"text that matches {pattern}", check_match, text)


def _commas(text: str) -> list[str]:
    return [piece.strip() for piece in text.split(",") if piece.strip()]


def items(
    accepted: str,
    check_item: Check,
    text: str,
    split: Callable[[str], list[str]] = _commas,
    parse: Parse = str,
    item: str = "str",
) -> Setting:
    """Return the row of several items; the value kept is a tuple without duplicates.

    The setting takes a list, a tuple, one item, or a text that `split` divides.
    """

    def check_items(value: object) -> tuple[object, ...]:
        if isinstance(value, str):
            value = split(value)
        elif not isinstance(value, list | tuple):
            value = (value,)
        if len(value) > MAX_ITEMS:
            raise BadArgumentError(f"{len(value)} items; at most {MAX_ITEMS}")
        return tuple(dict.fromkeys(map(check_item, value)))

    annotation = f"Sequence[{item}] | {item}"
    help_ = f"{text}, comma-separated"
    return Setting(tuple, annotation, accepted, check_items, parse, help_)


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


# Checks of values.


def check_integer(low: int, high: int) -> Callable[[object], int]:
    """Return a check for an int in [low, high]: it rejects bool, accepts numpy's."""

    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, SupportsIndex):
            raise TypeError
        number = value.__index__()
        if not low <= number <= high:
            raise ValueError
        return number

    return check


def check_secret(value: object) -> str:
    """Return a text of printable characters without space around it."""
    if not isinstance(value, str) or len(value) > 4096:
        raise TypeError
    if not value.isprintable() or value != value.strip():
        raise ValueError
    return "".join(value)  # a plain str, even if the value is of a subclass


def check_path(value: object) -> str | None:
    """Return the path of a file as text; None stays None."""
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
        if not low <= number <= high:  # also false for NaN
            raise ValueError
        return number

    return check


def _check_flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _check_feed(value: object) -> str:
    name = check_feed_name(value)
    if names_no_feed(name):
        raise BadArgumentError(
            f"{name!r} cannot name a feed: {FEED_VARIABLE}={NO_FEED} makes"
            " strategies use no feed; give the feeder another name"
        )
    return name


def _check_endpoint(item: object) -> str:
    if not isinstance(item, str):
        kind = type(item).__name__
        raise BadArgumentError(
            f"an item of type {kind} is not accepted; {endpoint.ACCEPTED}"
        )
    return endpoint.check_endpoint(item)


def _check_proxy(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return endpoint.check_proxy(value)


def _check_port(item: object) -> int:
    try:
        return check_integer(1, 65535)(item)
    except (TypeError, ValueError):
        text = f"{repr_short(item)} is not accepted; a port is 1 to 65535"
        raise BadArgumentError(text) from None


# Parses of texts.


def parse_integer(text: str) -> int:
    """Return an integer written in ASCII digits; raise ValueError for another text."""
    if not _INTEGER.fullmatch(text):
        raise ValueError
    return int(text)


def parse_flag(text: str) -> bool:
    """Return what a word such as yes or off means; raise KeyError for another word."""
    return _FLAGS[text.lower()]


def _parse_real(text: str) -> float:
    if not _REAL.fullmatch(text):
        raise ValueError
    return float(text)


def _parse_ports(text: str) -> list[int]:
    return [parse_integer(piece) for piece in _commas(text)]


SETTINGS: dict[str, Setting] = {
    "protocol": one_of(PROTOCOLS, "protocol of the venue"),
    "feed": text_setting("the name of a feed", _check_feed, "name of the feed"),
    "symbols": items("symbols", check_symbol, "symbols to subscribe"),
    "resolutions": items(
        "timeframes",
        check_timeframe,
        "timeframes to subscribe",
        item="TimeframeName",
    ),
    "endpoint": items(
        endpoint.ACCEPTED,
        _check_endpoint,
        "addresses of the venue, tried in turn; empty: the protocol's own",
        endpoint.split_endpoints,
    ),
    "port": items(
        "a port or a list of ports, 1 to 65535",
        _check_port,
        "ports for endpoints that name none, tried in turn",
        parse=_parse_ports,
        item="int",
    ),
    TOKEN: text_setting(
        "text of at most 4096 printable characters, no space around it",
        check_secret,
        "token of the wealthai protocol",
    ),
    "market_type": matching("[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "market at the venue"),
    "venue": _optional(
        matching(
            "[A-Za-z0-9][A-Za-z0-9.:_-]{0,63}(,[A-Za-z0-9][A-Za-z0-9.:_-]{0,63}){0,7}",
            "name of the venue in the feed's identity",
        ),
        "the hosts of the endpoints",
    ),
    "history": integer(
        1, 10_000_000, "closed bars of each stream that a reader may ask for"
    ),
    "guard": integer(
        1,
        10_000_000,
        "bars that may close before the oldest row of a slice is overwritten",
        none="a quarter of history, at least 16",
    ),
    "max_streams": integer(
        1,
        MAX_STREAMS,
        "capacity of the feed in streams",
        none="twice the subscribed, at least 16",
    ),
    "allow_insecure": flag("permit ws:// beyond this host"),
    "proxy": text_setting(
        endpoint.PROXY_ACCEPTED,
        _check_proxy,
        "HTTP proxy to connect through; those of the environment are never used",
        none="connect directly",
    ),
    "max_redirects": integer(
        0, 5, "redirects of the handshake to follow; secrets stay with the first host"
    ),
    "connect_timeout": seconds("limit of one attempt to connect"),
    "ack_timeout": seconds("limit of the wait for an acknowledgement"),
    "lines": integer(1, 2, "connections that carry each stream at the same time"),
    "max_streams_per_connection": integer(
        1, MAX_STREAMS, "streams on one connection", none="the protocol's limit"
    ),
    "control_interval": seconds(
        "shortest time between two requests on one connection",
        low=0.0,
        none="the protocol's limit",
    ),
    "max_connection_age": seconds(
        "age at which a connection is replaced by a new one",
        high=_YEAR,
        none="the protocol's limit",
    ),
    "on_refused": one_of(
        REFUSAL_POLICIES, "what a refused symbol does at a connect to the other streams"
    ),
    "sequence": one_of(
        SEQUENCES, "how the venue numbers its messages, if it numbers them"
    ),
    "repair_grace": seconds(
        "time after a reconnect for which its streams are recovering", low=0.0
    ),
    "close_grace": seconds(
        "delay after its close_time at which the clock closes a bar, where the venue"
        " sends no flag",
        low=0.0,
    ),
    "data_timeout": seconds(
        "limit of a connection's silence, after which the feeder reconnects",
        high=_YEAR,
        none="10 of the venue's push intervals, at least 30 s",
    ),
    "heartbeat_interval": seconds("time between the feeder's pings"),
    "heartbeat_timeout": seconds(
        "limit of the venue's silence, and of the wait for the rest of a message"
    ),
    "max_frame_bytes": integer(
        1024, 1 << 30, "largest message accepted from the venue"
    ),
    "max_reconnect_attempts": integer(
        1,
        1_000_000,
        "failures in a row after which the feeder's state is error",
        none="never",
    ),
    "give_up": flag("stop reconnecting after max_reconnect_attempts"),
    "dials_per_minute": integer(
        0,
        100_000,
        "connections to one host and port that all feeders of this user may begin in a"
        " minute; 0: no limit",
    ),
    "reconnect_delay_base": seconds(
        "smallest upper limit of the random delay before an attempt"
    ),
    "reconnect_delay_max": seconds(
        "largest upper limit of the random delay before an attempt"
    ),
    "stuck_timeout": seconds(
        "time without a heartbeat after which a manager replaces its feeder"
    ),
    "launch": one_of(
        LAUNCH_POLICIES, "whether a manager may start a feeder, or only adopts one"
    ),
    "stop_with_manager": flag("end the feeder when its manager ends"),
    "log_level": one_of(LEVELS, "lowest level to log", str.upper),
    "log_file": text_setting(
        "the path of a file",
        check_path,
        "file to log to",
        annotation="str | os.PathLike[str]",
    ),
    "log_format": one_of(LOG_FORMATS, "form of a line of the log"),
}
# No option for the token: every user of the host can read a process's arguments.
OPTIONS = tuple(
    Option(name, row.type, row.help) for name, row in SETTINGS.items() if name != TOKEN
)
