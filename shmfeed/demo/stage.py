"""The venue and the feeder of a demo, and what is around them."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

from shmfeed.config import VARIABLES
from shmfeed.demo.plan import LONGEST, RESOLUTIONS, Plan
from shmfeed.manager import get_websocket_manager
from shmfeed.memory.segment import place
from shmfeed.simulator import Venue

_VENUE_HISTORY = LONGEST + 20
_START_SECONDS = 30.0
_SIGNALS = tuple(  # not all of them are everywhere
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP")
    if hasattr(signal, name)
)


class Stage:
    """A venue in this process and a feeder in its own, inside the `with` block.

    Entering raises ImportError where websockets is not installed, and what the
    manager's `start` raises. Nothing is left after it.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._venue = Venue(
            symbols=plan.symbols,
            resolutions=RESOLUTIONS,
            seed=plan.seed,
            history=_VENUE_HISTORY,
        )
        self._manager = get_websocket_manager(plan.feed)

    def __enter__(self) -> Self:
        self._venue.start()
        try:
            self._manager.configure(
                protocol="wealthai",
                symbols=self._plan.symbols,
                resolutions=RESOLUTIONS,
                endpoint=self._venue.url,
                stop_with_manager=True,
            )
            self._manager.start(_START_SECONDS)
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        self._manager.stop()
        self._venue.stop()
        # Lock files stay, elsewhere; but this feed's name will not come again.
        place(self._plan.feed).lock.unlink(missing_ok=True)

    @property
    def url(self) -> str:
        """Where the venue listens."""
        return self._venue.url

    def cut(self) -> None:
        """The venue drops the connection."""
        self._venue.drop_connections()

    def status(self) -> dict[str, Any]:
        """The manager's status."""
        return self._manager.get_status()


class Stop:
    """Whether a signal asked the demo to end."""

    def __init__(self) -> None:
        self.asked = False

    def handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 # signal's
        self.asked = True


@contextmanager
def signals() -> Iterator[Stop]:
    """Ctrl-C, SIGTERM and SIGHUP only ask, as often as they come.

    One that whoever started us has us ignore, as nohup does, stays ignored.
    """
    stop = Stop()
    heeded = [n for n in _SIGNALS if signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop.handle) for number in heeded}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def no_settings_from_outside() -> Iterator[None]:
    """The environment without a feeder's settings: the demo has its own."""
    taken = {name: os.environ.pop(name) for name in VARIABLES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(taken)
