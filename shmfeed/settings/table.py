"""Every setting in one table: its type, what is accepted, and the help of its option.

The value of the token is in no message, and of an endpoint only what is no secret.
"""

import difflib
from typing import NamedTuple

from shmfeed.arguments import shown
from shmfeed.bar import check_timeframe
from shmfeed.errors import BadArgumentError
from shmfeed.names import check_feed_name, check_symbol
from shmfeed.settings import endpoint
from shmfeed.settings.kinds import (
    MAX_ITEMS,
    Setting,
    check_path,
    check_secret,
    check_whole,
    commas,
    flag,
    items,
    matching,
    one_of,
    parse_whole,
    seconds,
    text_of,
    whole,
)

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
