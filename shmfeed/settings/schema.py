"""The schema of the settings: one row each, with its type, its checks and its help.

No message holds the token or a header's value, and of an endpoint none shows a secret
part.
"""

import difflib
import importlib.util
from typing import NamedTuple

from shmfeed.accounts import check_group
from shmfeed.bar import check_timeframe
from shmfeed.errors import BadArgumentError
from shmfeed.identity import REDIS
from shmfeed.settings import (
    backfill,
    certificates,
    endpoint,
    headers,
    receivers,
    relay,
)
from shmfeed.settings.kinds import (
    MAX_ITEMS,
    Setting,
    check_integer,
    check_path,
    check_secret,
    flag,
    integer,
    items,
    matching,
    naming_accepted,
    one_of,
    optional,
    parse_integer,
    seconds,
    seconds_by_name,
    share,
    spans_by_name,
    split_commas,
    text_setting,
)
from shmfeed.settings.secret_files import check_secret_file
from shmfeed.text import repr_short, shorten
from shmfeed.validation import (
    FEED_VARIABLE,
    NO_FEED,
    check_feed_name,
    check_symbol,
    names_no_feed,
)

MAX_STREAMS = MAX_ITEMS
PROTOCOLS = ("wealthai", "binance", REDIS)
DEFAULT_MARKET_TYPE = "binance-testnet"
# The markets of the protocols that have no default one.
MARKETS = {"binance": ("spot", "usdm", "coinm", "testnet")}
SEQUENCES = ("auto", "connection", "stream", "off")
REFUSAL_POLICIES = ("skip", "fail")
LAUNCH_POLICIES = ("auto", "never")
LOG_FORMATS = ("text", "json")
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
COMPRESSIONS = ("off", "deflate")
TOKEN = "csrf_token"  # noqa: S105  the setting's name, not its value
TOKEN_FILE = "csrf_token_file"  # noqa: S105  as above
SECRETS = (TOKEN, "headers", relay.PASSWORD)  # no message or status shows their values

MAX_NAME = 100  # characters of a manager's name
_YEAR = 365 * 86_400.0


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
    if name in SECRETS:
        text = "(its value is not shown)"
    elif name in {"endpoint", "rest_endpoint", "proxy", "on_event", "publish_to"}:
        text = f"of type {type(value).__name__}"
    else:
        text = repr_short(value)
    return BadArgumentError(f"{name} {text} is not accepted; {SETTINGS[name].accepted}")


def _check_feed(value: object) -> str:
    name = check_feed_name(value)
    if names_no_feed(name):
        raise BadArgumentError(
            f"{name!r} cannot name a feed: {FEED_VARIABLE}={NO_FEED} makes"
            " strategies use no feed; give the feeder another name"
        )
    return name


def _check_endpoint(item: object) -> str:
    return endpoint.check_address(_address(item, endpoint.ACCEPTED))


def _check_rest_endpoint(item: object) -> str:
    return endpoint.check_rest_endpoint(_address(item, endpoint.REST_ACCEPTED))


def _address(item: object, accepted: str) -> str:
    if not isinstance(item, str):
        kind = type(item).__name__
        raise BadArgumentError(f"an item of type {kind} is not accepted; {accepted}")
    return item


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


def _check_client_cert(value: object) -> object:
    paths = _CLIENT_CERT.check(value)
    if not isinstance(paths, tuple) or len(paths) > 2:
        raise ValueError
    if paths:
        certificates.check_client_pair(paths)
    return paths


def _check_name(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME:
        raise ValueError
    if not value.isprintable() or value.strip() != value:
        raise ValueError
    return value


def _check_secret_file(value: object) -> str:
    return check_secret_file("file", value)


def _parse_ports(text: str) -> list[int]:
    return [parse_integer(piece) for piece in split_commas(text)]


def _check_compression(value: object) -> object:
    chosen = _COMPRESSION.check(value)
    if chosen == "deflate" and importlib.util.find_spec("websockets") is None:
        raise BadArgumentError(
            "deflate needs the package websockets: pip install websockets, or off"
        )
    return chosen


_COMPRESSION = one_of(COMPRESSIONS, "compression of messages that the handshake offers")
_PASSWORD_FILE = "the path of a file whose only line is the password"  # noqa: S105  help
_TOKEN_FILE = "the path of a file whose only line is the token"  # noqa: S105  help
_CA_FILE = "the path of a PEM file with the certificates of authorities"
_CLIENT_CERT = items(
    "the path of a PEM file with certificate and key, or the paths of the two files",
    certificates.check_client_cert,
    "the client's own certificate and key: one PEM file, or two",
    item="str | os.PathLike[str]",
)
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
        "addresses of the venue, or of Redis, tried in turn; empty: the protocol's own",
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
        annotation="str | Callable[[], str]",
    ),
    TOKEN_FILE: text_setting(
        _TOKEN_FILE,
        naming_accepted(_check_secret_file, _TOKEN_FILE),
        "file with the token, read again at each connect",
        none="csrf_token",
        annotation="str | os.PathLike[str]",
    ),
    "market_type": matching(
        "[A-Za-z0-9][A-Za-z0-9._-]{0,63}",
        "market at the venue; protocol binance has no default",
    ),
    "venue": optional(
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
    "group": text_setting(
        "the name or the number of a group",
        check_group,
        "group whose members may read the feed, as readers that name its owner",
        none="this user alone",
        annotation="str | int",
    ),
    "allow_insecure": flag("permit ws:// and redis:// beyond this host"),
    "proxy": text_setting(
        endpoint.PROXY_ACCEPTED,
        _check_proxy,
        "proxy to connect through; those of the environment are never used",
        none="connect directly",
    ),
    "proxy_password_file": text_setting(
        _PASSWORD_FILE,
        naming_accepted(_check_secret_file, _PASSWORD_FILE),
        "file with the password for the proxy, read at each connect",
        none="no password",
        annotation="str | os.PathLike[str]",
    ),
    "headers": Setting(
        dict,
        "Mapping[str, str] | Sequence[str] | str",
        headers.ACCEPTED,
        naming_accepted(headers.check_headers, headers.ACCEPTED),
        headers.parse_headers,
        "headers of the handshake's request; the values are secrets",
    ),
    "origin": text_setting(
        "an origin such as https://example.com",
        headers.check_origin,
        "origin that the handshake states",
        none="state none",
    ),
    "subprotocols": items(
        "names of subprotocols",
        headers.check_subprotocol,
        "subprotocols that the handshake offers, the preferred one first",
    ),
    "ca_file": text_setting(
        _CA_FILE,
        naming_accepted(certificates.check_ca_file, _CA_FILE),
        "file of the authorities to trust, instead of the system's",
        none="the system's",
        annotation="str | os.PathLike[str]",
    ),
    "client_cert": _CLIENT_CERT._replace(
        check=naming_accepted(_check_client_cert, _CLIENT_CERT.accepted)
    ),
    "compression": _COMPRESSION._replace(check=_check_compression),
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
        REFUSAL_POLICIES, "treatment of a symbol that is refused at a connect"
    ),
    "sequence": one_of(
        SEQUENCES, "scope of the numbers that the venue gives its messages"
    ),
    "repair_grace": seconds(
        "time for which newer bars wait for history, and for which streams are"
        " recovering after a reconnect",
        low=0.0,
    ),
    "stale_after": seconds_by_name(
        "timeframes",
        check_timeframe,
        "silence after which a stream is stale, for all timeframes or by timeframe",
        low=0.1,
        high=_YEAR,
        none="3 bars, at least 30 s",
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
    "backfill": Setting(
        str,
        "str | os.PathLike[str] | Sequence[str] | HistoryFunction",
        backfill.ACCEPTED,
        backfill.check_backfill,
        backfill.parse_command,
        "source of history: auto, off, PROTOCOL:MARKET, a file, or a command",
    ),
    "rest_endpoint": items(
        endpoint.REST_ACCEPTED,
        _check_rest_endpoint,
        "base addresses of the REST service, tried in turn; empty: the market's own",
        endpoint.split_endpoints,
    ),
    "warmup": integer(
        0,
        10_000_000,
        "bars of each stream that history is asked for at the start",
        none="as many as history",
    ),
    "rest_share": share(
        "part of the venue's REST limit that all feeders of this user may use"
    ),
    "rest_settle": seconds(
        "time after a bar's close from which REST corrects a closing message", low=0.0
    ),
    "store": text_setting(
        "the path of a file",
        check_path,
        "SQLite file that keeps every version of each closed bar",
        none="keep none",
        annotation="str | os.PathLike[str]",
    ),
    "store_keep": spans_by_name(
        "days",
        "timeframes",
        check_timeframe,
        "age at which the store drops bars, for all timeframes or by timeframe",
        (0.01, 36_525.0),
        "keep all",
    ),
    "source_feed": relay.SOURCE_FEED,
    "publish_to": relay.PUBLISH_TO,
    "flush_interval": relay.FLUSH_INTERVAL,
    relay.PASSWORD: relay.REDIS_PASSWORD,
    relay.PASSWORD_FILE: relay.REDIS_PASSWORD_FILE,
    "stuck_timeout": seconds(
        "time for which a feeder's main loop may stand still before its manager"
        " replaces the feeder"
    ),
    "launch": one_of(
        LAUNCH_POLICIES, "launch of a feeder by a manager where none runs"
    ),
    "stop_with_manager": flag("end the feeder when its manager ends"),
    "name": text_setting(
        "text of at most 100 printable characters, no space around it",
        _check_name,
        "name by which a later manager finds the streams of this one",
        none="the command of its process",
    ),
    "manager_linger": seconds(
        "time for which the streams of a manager stay after its end",
        low=0.0,
        high=_YEAR,
    ),
    "lease_linger": seconds(
        "time for which the streams of a lease stay after its end",
        low=0.0,
        high=_YEAR,
    ),
    "on_event": optional(
        Setting(
            str,
            "str | os.PathLike[str] | Sequence[str]",
            receivers.ACCEPTED,
            receivers.check_receiver,
            backfill.parse_command,
            "receiver of the feed's events: a webhook, or a command",
        ),
        "tell none",
    ),
    "log_level": one_of(LEVELS, "lowest level to log", str.upper),
    "log_file": text_setting(
        "the path of a file",
        check_path,
        "file to log to",
        annotation="str | os.PathLike[str]",
    ),
    "log_format": one_of(LOG_FORMATS, "form of a line of the log"),
}
# No option for a secret: every user of the host can read a process's arguments.
OPTIONS = tuple(
    Option(name, row.type, row.help)
    for name, row in SETTINGS.items()
    if name not in SECRETS
)
