"""The table of protocols: a venue is one row here."""

from collections.abc import Callable

from shmfeed.codecs.binance import BinanceCodec
from shmfeed.codecs.interface import Codec
from shmfeed.codecs.wealthai import WealthaiCodec
from shmfeed.errors import BadArgumentError

DEFAULT_MARKET_TYPE = "binance-testnet"

# Each is called with the market_type and the token of the session.
_PROTOCOLS: dict[str, Callable[[str, str], Codec]] = {
    "wealthai": WealthaiCodec,
    "binance": lambda market_type, _token: BinanceCodec(market_type),
}


def get_codec(protocol: str, market_type: str = "", csrf_token: str = "") -> Codec:
    """A new codec, for one connection after another.

    Raises BadArgumentError, listing what is accepted, for an unknown protocol or for
    a market_type that the protocol does not have; "" is the default one.
    """
    make = _PROTOCOLS.get(protocol)
    if make is None:
        accepted = " ".join(_PROTOCOLS)
        raise BadArgumentError(
            f"protocol {protocol!r} is not accepted; one of: {accepted}"
        )
    return make(market_type or DEFAULT_MARKET_TYPE, csrf_token)
