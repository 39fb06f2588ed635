"""What a local venue is to be: every option, checked at the door."""

import math
from collections.abc import Mapping
from pathlib import Path

import msgspec

from shmfeed.bar import check_timeframe
from shmfeed.errors import BadArgumentError
from shmfeed.simulator.faults import Fault, parse_faults
from shmfeed.simulator.faults.spec import OF_BARS
from shmfeed.validation import check_symbol

PROTOCOLS = ("wealthai", "binance")
FASTEST = 10_000.0  # beyond it, a day's lead would begin before 1999
MAX = "max"


class VenueOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a venue; `venue_options` makes and checks them.

    symbols, resolutions: what the venue knows; empty: whatever is asked for.
    speed: how many times faster than the wall clock the venue's time runs; inf: as fast
    as the socket takes it, `bars` bars a stream; None: nothing comes by itself.
    history: closed bars sent to a new subscription before the current one.
    token: the csrf_token that a CONNECT must carry; None: any.
    replay: a recording to send to each connection in place of a market.
    update_interval: wall seconds between two updates of a forming bar.
    closed_flag: whether bars of the house protocol say that they are closed.
    port: 0: chosen by the system. start: the venue's clock at its start, ms UTC; None:
    now at speed 1, otherwise far enough in the past to stay there for a day.
    faults: what goes wrong, as `name:rate@start` pieces; see faults/.
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
    update_interval: float = 0.25
    closed_flag: bool = True
    host: str = "127.0.0.1"
    port: int = 0
    max_connections: int = 256
    start: int | None = None
    faults: str = ""

    def __repr__(self) -> str:
        return f"VenueOptions({self.protocol!r}, speed={self.speed})"  # no token

    @property
    def fastest(self) -> bool:
        """Whether the venue sends as fast as the socket takes it."""
        return self.speed == math.inf


def venue_options(given: Mapping[str, object]) -> VenueOptions:
    """Options from plain values: `speed` may be "max", lists may be comma-separated.

    BadArgumentError names the option, its value and what is accepted.
    """
    values = dict(given)
    for name in ("symbols", "resolutions"):
        text = values.get(name)
        if isinstance(text, str):
            values[name] = [part.strip() for part in text.split(",") if part.strip()]
    if isinstance(values.get("replay"), Path):
        values["replay"] = str(values["replay"])
    speed = values.pop("speed", 1.0)
    unknown = sorted(set(values) - set(VenueOptions.__struct_fields__))
    if unknown:
        known = " ".join(VenueOptions.__struct_fields__)
        raise BadArgumentError(f"no option {', '.join(unknown)}; there are: {known}")
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


def _speed(value: object) -> float | None:
    if value is None:
        return None
    try:
        number = math.inf if value == MAX else float(value)  # type: ignore[arg-type]  # whatever it is
    except (TypeError, ValueError):
        number = math.nan
    if number == math.inf or 1.0 <= number <= FASTEST:
        return number
    raise BadArgumentError(
        f"speed {value!r} is not accepted; 1 to {FASTEST:g}, or {MAX!r}"
    )


def _is_host(text: str) -> bool:
    try:
        return bool(text.strip() and text.encode("idna"))  # as its look-up would
    except UnicodeError:
        return False


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except OSError:  # a name that is too long
        return False


def checked_faults(options: VenueOptions, text: str) -> tuple[Fault, ...]:
    """These faults, at this venue; BadArgumentError where it cannot have them."""
    faults = parse_faults(text)
    names = [fault.name for fault in faults]
    bare = [name for name in names if name in OF_BARS]
    if bare and options.replay is not None:
        raise BadArgumentError(
            f"faults {', '.join(bare)} need bars that the venue makes: a recording "
            "is sent as it is"
        )
    if "skew-events" in names and options.protocol != "binance":
        raise BadArgumentError(
            f"fault 'skew-events' needs protocol 'binance': {options.protocol!r} has "
            "no event times; 'skew' shifts the whole clock"
        )
    return faults


def _check(options: VenueOptions) -> None:
    checked_faults(options, options.faults)
    limits = (
        ("protocol", options.protocol in PROTOCOLS, f"one of {' '.join(PROTOCOLS)}"),
        ("host", _is_host(options.host), "an address, such as 127.0.0.1"),
        ("port", 0 <= options.port <= 65_535, "0 to 65535"),
        ("history", 0 <= options.history <= 1_000_000, "0 to 1000000"),
        ("bars", 1 <= options.bars <= 100_000_000, "1 to 100000000"),
        ("max_connections", 1 <= options.max_connections <= 10_000, "1 to 10000"),
        ("update_interval", 0.01 <= options.update_interval <= 3600, "0.01 to 3600 s"),
        ("start", options.start is None or options.start >= 0, "ms UTC, not negative"),
    )
    for name, good, accepted in limits:
        if not good:
            value = getattr(options, name)
            raise BadArgumentError(f"{name} {value!r} is not accepted; {accepted}")
    if not options.closed_flag and options.speed not in {1.0, None}:
        raise BadArgumentError(
            "bars without a closed flag are closed by the wall clock: "
            f"that needs speed 1, not {options.speed:g}"
        )
    if not options.closed_flag and options.protocol != "wealthai":
        raise BadArgumentError("the closed flag can be left out of 'wealthai' only")
    if options.replay is not None and not _is_file(options.replay):
        raise BadArgumentError(f"no recording to replay at {options.replay[:200]!r}")
