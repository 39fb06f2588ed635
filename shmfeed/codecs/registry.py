"""The table of protocols, one row for each codec."""

from collections.abc import Callable

from shmfeed.codecs.binance import BinanceCodec
from shmfeed.codecs.interface import Codec
from shmfeed.codecs.redis import RedisCodec
from shmfeed.codecs.wealthai import WealthaiCodec
from shmfeed.errors import BadArgumentError
from shmfeed.settings.schema import DEFAULT_MARKET_TYPE

# Each is called with the market_type and the session's token.
_PROTOCOLS: dict[str, Callable[[str, str], Codec]] = {
    "wealthai": lambda market_type, token: WealthaiCodec(
        market_type or DEFAULT_MARKET_TYPE, token
    ),
    "binance": lambda market_type, _token: BinanceCodec(market_type),
    "redis": lambda _market_type, _token: RedisCodec(),
}


def get_codec(protocol: str, market_type: str = "", csrf_token: str = "") -> Codec:
    """Return a new codec, reusable for successive connections.

    Args:
        protocol: The protocol's name.
        market_type: The protocol's market; empty for the default one of a protocol
            that has one.
        csrf_token: The session's token, for a protocol that sends one.

    Raises:
        BadArgumentError: The protocol is unknown, or has no such market. The message
            lists those that are accepted.
    """
    make = _PROTOCOLS.get(protocol)
    if make is None:
        accepted = " ".join(_PROTOCOLS)
        raise BadArgumentError(
            f"protocol {protocol!r} is not accepted; one of: {accepted}"
        )
    return make(market_type, csrf_token)
