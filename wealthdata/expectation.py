"""The identity that a process expects of its feed, as `use` and SHMFEED_EXPECT say."""

from shmfeed.errors import BadArgumentError
from shmfeed.text import repr_short

_PARTS = (2, 3)


def check_expect(name: str, value: object) -> str:
    """Return `protocol/market_type` or `protocol/market_type/venue`.

    Raise BadArgumentError.
    """
    parts = value.split("/") if isinstance(value, str) else []
    if len(parts) not in _PARTS or not all(
        part.strip() == part != "" for part in parts
    ):
        raise BadArgumentError(
            f"{name} is {repr_short(value)}; it must be protocol/market_type or"
            " protocol/market_type/venue, like 'binance/usdm'"
        )
    return "/".join(parts)
