"""The protocol of a follower: streams and addresses alone, as no message is decoded.

A follower's rows come whole from the engine of the relay, past the ledger's rules of
messages. So this codec has no frames: it checks names, and completes addresses.
"""

from collections.abc import Sequence
from typing import Self
from urllib.parse import SplitResult

from shmfeed.bar import StreamKey, check_timeframe
from shmfeed.codecs.endpoints import expand
from shmfeed.codecs.interface import Event, Ignored, Request
from shmfeed.errors import BadArgumentError
from shmfeed.identity import REDIS
from shmfeed.layout import MAX_STREAMS
from shmfeed.settings.endpoint import REDIS_PORT, check_redis, explicit_port, is_redis
from shmfeed.settings.relay import MARKET
from shmfeed.validation import check_symbol


def _ports(address: str, ports: Sequence[int]) -> Sequence[int]:
    """Return the ports to try at an address: Redis's own if none is given."""
    return ports if ports or explicit_port(address) else [REDIS_PORT]


def _complete(parts: SplitResult) -> SplitResult:
    return parts._replace(path=parts.path.rstrip("/") or "/0")


class RedisCodec:
    """The codec of a follower. It has no state, and makes no requests."""

    name = REDIS
    csrf_token = ""
    market_type = MARKET
    flags_closed = True  # by the leader
    answers_pings = False
    max_streams = MAX_STREAMS
    control_interval = 0.0
    max_connection_age: float | None = None
    push_interval = 1.0
    numbers_trades = False

    def stream_key(self, symbol: str, timeframe: str) -> StreamKey:
        """Return a stream; the leader's venue decides if it exists."""
        return check_symbol(symbol), check_timeframe(timeframe)

    def endpoints(self, given: Sequence[str], ports: Sequence[int]) -> list[str]:
        """Return the addresses of Redis, each with a port and a database."""
        if not given or not all(map(is_redis, given)):
            raise BadArgumentError(
                "protocol redis needs an endpoint such as redis://host:6379/0"
            )
        found = [
            url
            for address in given
            for url in expand([address], _ports(address, ports), _complete, check_redis)
        ]
        return list(dict.fromkeys(found))

    def fresh(self) -> Self:
        return self

    def url(self, endpoint: str, streams: Sequence[StreamKey]) -> str:  # noqa: ARG002
        return endpoint

    def subscribe(self, streams: Sequence[StreamKey]) -> list[Request]:  # noqa: ARG002
        return []

    def change(
        self,
        old: Sequence[StreamKey],  # noqa: ARG002
        new: Sequence[StreamKey],  # noqa: ARG002
    ) -> list[Request]:
        return []

    def ask_again(
        self,
        streams: Sequence[StreamKey],  # noqa: ARG002
        subscribed: Sequence[StreamKey],  # noqa: ARG002
    ) -> list[Request]:
        return []

    def decode(self, data: bytes) -> tuple[Event, ...]:  # noqa: ARG002
        return (Ignored(),)
