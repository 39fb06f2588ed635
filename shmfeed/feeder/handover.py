"""Hand a feed over to the feeder that takes its place, and go on from such a change."""

import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from shmfeed.control.held import HeldHandler
from shmfeed.control.messages import ControlError
from shmfeed.control.server import ControlServer, Handler
from shmfeed.errors import FeedBusyError, FeedLostError, ShmfeedError
from shmfeed.feeder.handover_channel import (
    CarriedStream,
    Handover,
    Offer,
    Taken,
    socket_of,
)
from shmfeed.feeder.intake import Intake
from shmfeed.feeder.request_handler import FeederParts
from shmfeed.feeder.requests import PendingRequest
from shmfeed.segment.locking import FeedLocks
from shmfeed.segment.mapping import place
from shmfeed.wire.events import Received, SessionEvent
from shmfeed.writer import FeedWriter

log = logging.getLogger(__name__)

FREE_SECONDS = 5.0  # for the lock of a feeder that has just ended
_FREE_POLL = 0.05


class Following(Protocol):
    """The connections of a feeder that follows the venue beside the running one.

    `events` are those that came meanwhile. `taken` is what the other feeder has handed
    over, None before, and if it has died. See `takeover.Follower`.
    """

    taken: Taken | None

    @property
    def events(self) -> Iterable[SessionEvent]: ...

    def follow(self, wake: Callable[[], None]) -> bool: ...
    def close(self) -> None: ...


class HandoverOutcome(NamedTuple):
    """The outcome of a hand-over.

    `is_done` is True once the other feeder serves. `locks` are those with which this
    feeder must take the feed again, None if it has it still.
    """

    is_done: bool
    locks: FeedLocks | None = None


def hand_over(
    pending: PendingRequest, handover: Handover, writer: FeedWriter
) -> HandoverOutcome:
    """Hand the feed of `writer` over to the feeder that has asked.

    Call it while no other thread uses the writer. Its heartbeat goes on until the other
    feeder has taken the segment, so that readers see a feed that lives.
    """
    where = place(writer.name)
    try:
        offer = Offer(socket_of(where, pending.request.nonce))
        locks = writer.share_locks()
    except ShmfeedError as error:
        pending.fail(error)
        return HandoverOutcome(False)
    pending.finish()

    def beat() -> None:
        with suppress(FeedLostError):  # the other feeder has the segment
            writer.beat()

    if offer.make(handover, locks.share(), beat):
        locks.release()
        log.info("the feed is handed over to another feeder")
        return HandoverOutcome(True)
    log.warning(
        "feed %s: the feeder that took over ended before it served; this one goes on",
        where.name,
    )
    if writer.may_write:
        locks.release()
        return HandoverOutcome(False)
    return HandoverOutcome(False, locks)


def describe_feed(parts: FeederParts, intake: Intake) -> Handover:
    """Return what the feeder that takes over is told of the feed."""
    warming = parts.history.warming
    streams = [
        CarriedStream(key, ledger, key in warming)
        for key, ledger in intake.carry().items()
    ]
    warmup = parts.reloader.settings.warmup_bars
    return Handover(os.getpid(), streams, warmup, parts.wants.facts())


def catch_up(
    parts: FeederParts,
    intake: Intake,
    told: Handover | None,
    events: Sequence[SessionEvent],
    take: Callable[[SessionEvent], None],
) -> None:
    """Go on where the former feeder left the feed, with the events since.

    `told` is None of a feeder that died. `take` takes an event that is no message.
    """
    carried = {} if told is None else {one.key: one for one in told.streams}
    ledgers = {key: one.ledger for key, one in carried.items()}
    received = [one for one in events if isinstance(one, Received)]
    messages = intake.catch_up(ledgers, received)
    for event in events:
        if isinstance(event, Received):
            messages.take(event)
        else:
            take(event)
    if not events and parts.session.status.state == "connected":
        intake.connected()
    if told is not None and told.warmup >= parts.reloader.settings.warmup_bars:
        parts.history.carry_on(key for key, one in carried.items() if not one.warms_up)


def keep_serving(
    path: Path,
    handlers: tuple[Handler, HeldHandler],
    serve: Callable[[], bool],
    end: Callable[[], None],
) -> None:
    """Answer requests at `path` until `serve`, which is called again, returns True.

    It returns False where a hand-over has failed, after which the other feeder's socket
    may lie at `path`. `end` fails the requests that are left.
    """
    handle, held = handlers
    with ExitStack() as servers:
        server = servers.enter_context(ControlServer(path, handle, held=held))
        try:
            while not serve():
                if not server.is_reachable:
                    server.close(timeout=0.0)
                    server = ControlServer(path, handle, held=held)
                    servers.enter_context(server)
        finally:
            end()


def take_place(
    follower: Following,
    wake: Callable[[], None],
    take: Callable[[FeedLocks | None], None],
    catch_up: Callable[[Handover | None, Sequence[SessionEvent]], None],
) -> Taken | None:
    """Take the feed once `follower` has been handed it, and catch up.

    Return what is to be confirmed; None if there is nothing, or if `follower` was
    stopped, and the feed is not taken.
    """
    with closing(follower):
        if not follower.follow(wake):
            return None
        told = take_with(take, follower.taken)
        catch_up(told, tuple(follower.events))
        taken, follower.taken = follower.taken, None
    return taken


def take_with(
    take: Callable[[FeedLocks | None], None], taken: Taken | None
) -> Handover | None:
    """Take the feed with the locks that were handed over; return what was told.

    Without them take it as soon as it is free, and return None.

    Raises:
        ControlError: The other feeder goes on.
        ShmfeedError: As `take` does.
    """
    if taken is not None:
        if not taken.is_offered():
            raise ControlError(
                "the running feeder did not wait for this one, and goes on"
            )
        take(taken.locks)
        return taken.handover
    deadline = time.monotonic() + FREE_SECONDS
    while True:
        try:
            take(None)
        except FeedBusyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_FREE_POLL)
        else:
            return None
