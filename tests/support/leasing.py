"""A control server that grants leases as a feeder does, and refuses some."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from shmfeed.control.server import ControlServer
from shmfeed.errors import WebSocketSubscriptionError
from shmfeed.segment.mapping import place


class LeasingFeeder:
    """The feeder's side: the leases that are held, by the number of a connection."""

    def __init__(self):
        self.held, self.asked = {}, 0
        self.refused = {"BAD", "WORSE"}
        self.is_silent = False

    def take(self, request, number):
        answer = Future()
        if request is None:
            self.held.pop(number, None)
            return answer
        self.asked += 1
        bad = sorted(self.refused.intersection(request.symbols))
        if bad:
            refusal = WebSocketSubscriptionError(f"the venue has no {bad[0]}")
            answer.set_exception(refusal)
        elif not self.is_silent:
            self.held[number] = request
            answer.set_result({})
        return answer

    def streams(self):
        """Return the streams of all leases, sorted."""
        return sorted(
            (symbol, timeframe)
            for one in list(self.held.values())
            for symbol in one.symbols
            for timeframe in one.resolutions
        )


@contextmanager
def serving(feed: str, feeder: LeasingFeeder) -> Iterator[LeasingFeeder]:
    """Serve a feed's control socket."""
    path = place(feed).socket
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with ControlServer(path, lambda _: {}, held=feeder.take):
        yield feeder


def join_keepers() -> None:
    """Wait until the threads that keep leases have ended, after the last lease."""
    for thread in threading.enumerate():
        if thread.name == "shmfeed-leases":
            thread.join(10.0)
