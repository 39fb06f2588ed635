"""Leases: streams that a strategy wants for as long as it lives.

    with shmfeed.lease(["BTCUSDT"], ["1m"]):
        ...

The feed carries the streams of a lease beside all others. A lease ends with its `with`
block or its process, however that ends.
"""

import math
import threading
import uuid
import weakref
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from shmfeed.accounts import user_name
from shmfeed.bar import check_timeframe
from shmfeed.chosen_feed import chosen_feed, other_owner
from shmfeed.control.lease_client import LeaseClaim, keeper
from shmfeed.control.platform import check_feeder_platform
from shmfeed.errors import BadArgumentError
from shmfeed.layout import MAX_STREAMS
from shmfeed.process_name import process_name
from shmfeed.segment.mapping import place
from shmfeed.text import repr_short
from shmfeed.validation import check_feed_name, check_seconds, check_symbol, items_of

if TYPE_CHECKING:
    from shmfeed.settings.arguments import TimeframeName

__all__ = ["Lease", "lease"]


def lease(
    symbols: "Sequence[str] | str",
    resolutions: "Sequence[TimeframeName] | TimeframeName",
    feed: str | None = None,
    timeout: float = 30.0,
) -> "Lease":
    """Return a lease of each of these symbols in each of these timeframes.

    Enter it by `with` or `async with`: the body runs once the venue has acknowledged
    the streams. While it runs they are wanted, whatever managers and other strategies
    do, and are asked for again after a restart of the feeder. Leases of the same
    streams are independent of each other.

    Args:
        symbols: A symbol, or several.
        resolutions: A timeframe, or several.
        feed: The feed's name. Default: the one that this process reads, by
            `wealthdata.use`, SHMFEED_FEED, or "default".
        timeout: Seconds to wait for the feeder and the venue's acknowledgement.

    Returns:
        A Lease. Where this process reads no feed, as in a backtest or with
        SHMFEED_FEED=off, it holds nothing.

    Raises:
        BadArgumentError: A value is not accepted. The other errors come when the lease
            is entered; then also this one, if the process reads the feeds of another
            user, by SHMFEED_OWNER or `wealthdata.use`: their feeders take no leases.
        FeedNotFoundError: No feeder came within `timeout`.
        WebSocketSubscriptionError: The venue refused one of the streams, in its own
            words, or did not acknowledge in time. The lease then holds none of them.
        WebSocketConnectionError: The feeder had no connection to the venue.
        SegmentFullError: The feed has no capacity for the streams.
        UnsupportedPlatformError: No feeder can run on this host.

    Thread safety: any thread or task may call it, and enter what it returns.
    """
    names = [check_symbol(symbol) for symbol in _items("symbols", symbols)]
    frames = [check_timeframe(frame) for frame in _items("resolutions", resolutions)]
    if len(names) * len(frames) > MAX_STREAMS:
        raise BadArgumentError(
            f"symbols x resolutions are {len(names) * len(frames)} streams; a feed has"
            f" at most {MAX_STREAMS}"
        )
    if feed is not None:
        feed = check_feed_name(feed)
    return Lease(
        tuple(names), tuple(frames), feed, check_seconds("timeout", timeout, zero=False)
    )


def _items(name: str, value: Any) -> list[Any]:
    items = [value] if isinstance(value, str) else items_of(value)
    if not items:
        raise BadArgumentError(
            f"{name} is {repr_short(value)}; it must be a name, or a list of at least"
            " one"
        )
    return list(dict.fromkeys(items))


class Lease:
    """A lease, made by `lease`: a context manager, synchronous and asynchronous.

    It may be entered again after its end, or inside itself: each `with` block holds the
    streams for itself. A forked child holds nothing.

    Attributes:
        symbols: The symbols.
        resolutions: The timeframes.
        feed: The feed's name, or None for the one that this process reads.
    """

    def __init__(
        self,
        symbols: tuple[str, ...],
        resolutions: tuple[str, ...],
        feed: str | None,
        timeout: float,
    ) -> None:
        self.symbols = symbols
        self.resolutions = resolutions
        self.feed = feed
        self._timeout = timeout
        # The claims of the `with` blocks that are open; None of one that holds nothing.
        self._held: list[_Held | None] = []

    @property
    def is_held(self) -> bool:
        """True while the feeder has acknowledged it; False also between two feeders."""
        return any(held is not None and held.claim.is_held for held in self._held)

    def __enter__(self) -> Self:
        held = self._ask(lambda: None)
        if held is not None:
            try:
                held.claim.settled.wait(min(self._timeout, threading.TIMEOUT_MAX))
                held.check(self._timeout)
            except BaseException:
                held.release()
                raise
        self._held.append(held)
        return self

    def __exit__(self, *exc: object) -> None:
        held = self._held.pop()
        if held is not None:
            held.release()

    async def __aenter__(self) -> Self:
        import asyncio  # noqa: PLC0415 # only where a loop runs already

        loop = asyncio.get_running_loop()
        settled = asyncio.Event()

        def set_settled() -> None:
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(settled.set)

        held = self._ask(set_settled)
        if held is not None:
            limit = None if math.isinf(self._timeout) else self._timeout
            try:
                # Not wait_for: before Python 3.12 it may swallow a cancellation.
                with suppress(TimeoutError):
                    async with asyncio.timeout(limit):
                        await settled.wait()
                held.check(self._timeout)
            except BaseException:  # a cancelled task holds nothing
                held.release()
                raise
        self._held.append(held)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.__exit__()

    def _ask(self, on_settled: Any) -> "_Held | None":
        chosen = chosen_feed()
        if chosen is None:
            return None
        check_feeder_platform()
        _check_owner()
        feed = chosen if self.feed is None else self.feed
        fields: dict[str, object] = {
            "manager": uuid.uuid4().hex,
            "name": process_name(),
            "symbols": self.symbols,
            "resolutions": self.resolutions,
        }
        claim = LeaseClaim(feed, place(feed).socket, fields, on_settled)
        held = _Held(self, claim)
        keeper.add(claim)
        return held


def _check_owner() -> None:
    """Raise BadArgumentError if this process reads the feeds of another user."""
    owner = other_owner()
    if owner is not None:
        raise BadArgumentError(
            f"this process reads the feeds of user {user_name(owner)}, whose feeders"
            " take leases of that user alone; unset SHMFEED_OWNER and use(owner=) to"
            " lease from a feed of this user"
        )


class _Held:
    """The claim of one `with` block, released with the lease if that is dropped."""

    def __init__(self, owner: Lease, claim: LeaseClaim) -> None:
        self.claim = claim
        self._finalizer = weakref.finalize(owner, keeper.drop, claim)
        self._finalizer.atexit = False

    def check(self, timeout: float) -> None:
        """Raise the reason why the lease is not held."""
        if self.claim.refusal is not None:
            raise self.claim.refusal
        if not self.claim.settled.is_set():
            raise self.claim.timeout_error(timeout)

    def release(self) -> None:
        self._finalizer()
