"""The options of a local venue, checked before it starts."""

import math
from collections.abc import Mapping
from pathlib import Path

import msgspec

from shmfeed.bar import check_timeframe
from shmfeed.errors import BadArgumentError
from shmfeed.simulator.faults import Fault, parse_faults
from shmfeed.simulator.faults.spec import BAR_FAULTS, REST_FAULTS
from shmfeed.text import repr_short
from shmfeed.validation import check_symbol

PROTOCOLS = ("wealthai", "binance")
SEQUENCES = ("none", "connection", "stream")
EXCESS = ("refuse", "close")
TRADE_IDS = ("dense", "holes")
ROLL_UPS = ("1s", "1m", "1h")  # they divide every longer timeframe
FASTEST = 10_000.0  # faster, a day ahead of the clock would begin before 1999
MAX = "max"


class VenueOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a venue; `venue_options` makes and checks them.

    Attributes:
        protocol: One of PROTOCOLS.
        symbols: Symbols that the venue carries; empty: any.
        resolutions: Timeframes that the venue carries; empty: any.
        speed: Venue seconds per wall second; inf: as fast as the socket takes them,
            `bars` bars a stream; None: the venue sends nothing by itself.
        seed: Seed of the market's prices and of the faults.
        history: Closed bars sent to a new subscription before the forming one.
        bars: Bars of a stream at speed inf.
        token: The csrf_token that a CONNECT must carry; None: any.
        replay: Path of a recording to send instead of the market's bars.
        record: Path of a new file that keeps what the venue sends.
        update_interval: Wall seconds between two updates of a forming bar.
        closed_flag: Send the closed flag in bars of the wealthai protocol.
        host: Address to listen on.
        port: 0: chosen by the system.
        max_connections: Further connections are answered with HTTP status 503.
        max_streams: The most streams of one connection.
        excess: The answer to a subscription to more streams: "refuse" or "close".
        sequence: The count of the number `seq` of bars, wealthai only: "connection"
            counts those of the connection, "stream" those of the stream; "none" omits
            it.
        timestamps: Send the venue's time `ts` in bars of the wealthai protocol.
        trade_ids: The trade ids of Binance's bars: "dense" ids count up by one, as on
            spot; "holes" leaves some out, as on futures.
        roll_up: Timeframe of whose bars longer closed bars are made, one of ROLL_UPS;
            None: the market makes the bars of each timeframe by themselves.
        rest: Answer REST requests on the same port; binance only, without `replay`.
        rest_limit: Request weight of a minute; 0: that of each market.
        grid_phase: Day from which bars of 3 days are counted, 0 to 2 days after the
            epoch; None: each symbol has its own.
        start: The venue's time at its start, ms UTC; None: now at speed 1, otherwise
            far enough in the past to stay there for a day.
        faults: Comma-separated faults; see faults/spec.py.
    """

    protocol: str = "wealthai"
    symbols: tuple[str, ...] = ()
    resolutions: tuple[str, ...] = ()
    speed: float | None = 1.0
    seed: int = 7
    history: int = 0
    bars: int = 10_000
    token: str | None = None
    replay: str | None = None
    record: str | None = None
    update_interval: float = 0.25
    closed_flag: bool = True
    host: str = "127.0.0.1"
    port: int = 0
    max_connections: int = 256
    max_streams: int = 1024
    excess: str = "refuse"
    sequence: str = "none"
    timestamps: bool = False
    trade_ids: str = "dense"
    roll_up: str | None = None
    rest: bool = True
    rest_limit: int = 0
    grid_phase: int | None = None
    start: int | None = None
    faults: str = ""

    def __repr__(self) -> str:
        return f"VenueOptions({self.protocol!r}, speed={self.speed})"  # no token

    @property
    def has_rest(self) -> bool:
        """True if the venue answers REST requests."""
        return self.rest and self.protocol == "binance" and self.replay is None

    @property
    def fastest(self) -> bool:
        """True at speed inf: the socket sets the pace."""
        return self.speed == math.inf


def venue_options(given: Mapping[str, object]) -> VenueOptions:
    """Return checked options from plain values.

    Args:
        given: Values by name; `speed` may be "max", lists may be comma-separated.

    Raises:
        BadArgumentError: An option is unknown, or its value is not accepted.
    """
    values = dict(given)
    for name in ("symbols", "resolutions"):
        text = values.get(name)
        if isinstance(text, str):
            values[name] = [part.strip() for part in text.split(",") if part.strip()]
    for name in ("replay", "record"):
        if isinstance(values.get(name), Path):
            values[name] = str(values[name])
    speed = values.pop("speed", 1.0)
    unknown = sorted(set(values) - set(VenueOptions.__struct_fields__))
    if unknown:
        known = " ".join(VenueOptions.__struct_fields__)
        raise BadArgumentError(f"unknown option {', '.join(unknown)}; one of: {known}")
    try:
        options = msgspec.convert(values, VenueOptions)
    except msgspec.ValidationError as error:
        raise BadArgumentError(f"venue option: {error}") from None
    options = msgspec.structs.replace(
        options,
        speed=_speed(speed),
        symbols=tuple(check_symbol(symbol) for symbol in options.symbols),
        resolutions=tuple(check_timeframe(name) for name in options.resolutions),
    )
    _check(options)
    return options


def venue_url(options: VenueOptions, port: int) -> str:
    """Return the endpoint of a venue that listens on this port."""
    host = f"[{options.host}]" if ":" in options.host else options.host
    base = f"ws://{host}:{port}"
    return base + "/market_data" if options.protocol == "wealthai" else base


def _speed(value: object) -> float | None:
    if value is None:
        return None
    try:
        number = math.inf if value == MAX else float(value)  # type: ignore[arg-type]  # any value
    except (TypeError, ValueError):
        number = math.nan
    if number == math.inf or 1.0 <= number <= FASTEST:
        return number
    raise BadArgumentError(
        f"speed {repr_short(value)} is not accepted; 1 to {FASTEST:g}, or {MAX!r}"
    )


def _is_host(text: str) -> bool:
    try:
        return bool(text.strip() and text.encode("idna"))  # as a lookup would
    except UnicodeError:
        return False


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except OSError:  # the name is too long
        return False


def check_faults(options: VenueOptions, text: str) -> tuple[Fault, ...]:
    """Parse faults; raise BadArgumentError for one that this venue cannot have."""
    faults = parse_faults(text)
    names = [fault.name for fault in faults]
    of_bars = [name for name in names if name in BAR_FAULTS]
    if of_bars and options.replay is not None:
        raise BadArgumentError(
            f"faults {', '.join(of_bars)} do not work with replay: they change bars "
            "that the venue makes"
        )
    of_rest = [name for name in names if name in REST_FAULTS]
    if of_rest and not options.has_rest:
        raise BadArgumentError(
            f"faults {', '.join(of_rest)} need REST, which protocol 'binance' has "
            f"without replay and rest=False; this venue is {options.protocol!r}"
        )
    if "skew-events" in names and not (
        options.protocol == "binance" or options.timestamps
    ):
        raise BadArgumentError(
            "fault 'skew-events' needs protocol 'binance' or timestamps=True; "
            f"{options.protocol!r} has no event times without them; use 'skew' to "
            "shift the whole clock"
        )
    if "going-away" in names and options.protocol != "binance":
        raise BadArgumentError(
            f"fault 'going-away' needs protocol 'binance', not {options.protocol!r}, "
            "which announces nothing; use 'cut' to end connections"
        )
    return faults


def _check(options: VenueOptions) -> None:
    check_faults(options, options.faults)
    limits = (
        ("protocol", options.protocol in PROTOCOLS, f"one of {' '.join(PROTOCOLS)}"),
        ("host", _is_host(options.host), "an address, such as 127.0.0.1"),
        ("port", 0 <= options.port <= 65_535, "0 to 65535"),
        ("history", 0 <= options.history <= 1_000_000, "0 to 1000000"),
        ("bars", 1 <= options.bars <= 100_000_000, "1 to 100000000"),
        ("max_connections", 1 <= options.max_connections <= 10_000, "1 to 10000"),
        ("max_streams", 1 <= options.max_streams <= 1_000_000, "1 to 1000000"),
        ("excess", options.excess in EXCESS, f"one of {' '.join(EXCESS)}"),
        ("sequence", options.sequence in SEQUENCES, f"one of {' '.join(SEQUENCES)}"),
        ("trade_ids", options.trade_ids in TRADE_IDS, f"one of {' '.join(TRADE_IDS)}"),
        (
            "roll_up",
            options.roll_up in {None, *ROLL_UPS},
            f"one of {' '.join(ROLL_UPS)}",
        ),
        ("rest_limit", 0 <= options.rest_limit <= 1_000_000, "0 to 1000000"),
        ("grid_phase", options.grid_phase in {None, 0, 1, 2}, "0, 1 or 2"),
        ("update_interval", 0.01 <= options.update_interval <= 3600, "0.01 to 3600 s"),
        ("start", options.start is None or options.start >= 0, "ms UTC, not negative"),
    )
    for name, good, accepted in limits:
        if not good:
            value = getattr(options, name)
            raise BadArgumentError(
                f"{name} {repr_short(value)} is not accepted; {accepted}"
            )
    _check_form(options)
    if options.replay is not None and not _is_file(options.replay):
        raise BadArgumentError(f"replay {repr_short(options.replay)} is not a file")


def _check_form(options: VenueOptions) -> None:
    if not options.closed_flag and options.speed not in {1.0, None}:
        raise BadArgumentError(
            f"closed_flag=False needs speed 1, not {options.speed:g}: the wall clock "
            "closes bars that have no flag"
        )
    if options.roll_up is not None and options.fastest:
        raise BadArgumentError(
            f"roll_up={options.roll_up!r} does not work with speed {MAX!r}, which "
            "makes each timeframe's bars by themselves"
        )
    forms = (
        ("closed_flag=False", not options.closed_flag, "wealthai"),
        (f"sequence={options.sequence!r}", options.sequence != "none", "wealthai"),
        ("timestamps=True", options.timestamps, "wealthai"),
        (f"trade_ids={options.trade_ids!r}", options.trade_ids != "dense", "binance"),
        (f"rest_limit={options.rest_limit}", options.rest_limit != 0, "binance"),
    )
    for form, is_set, protocol in forms:
        if is_set and options.protocol != protocol:
            raise BadArgumentError(
                f"{form} needs protocol {protocol!r}, not {options.protocol!r}"
            )
