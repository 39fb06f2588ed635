"""A demo from its beginning to its end.

The venue and the feeder of a demo, and what is around them.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self

from shmfeed.demo.metrics import Counter, Figures, renewed
from shmfeed.demo.options import LONGEST, RESOLUTIONS, Plan
from shmfeed.demo.report import Screen
from shmfeed.demo.workers import Crew
from shmfeed.errors import ShmfeedError
from shmfeed.manager import get_websocket_manager
from shmfeed.segment.mapping import place
from shmfeed.settings.loading import VARIABLES
from shmfeed.simulator import Venue
from shmfeed.status import FeedStatus

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

    def status(self) -> FeedStatus:
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


EXIT_GOOD, EXIT_FAILED, EXIT_INTERRUPTED = 0, 1, 130

_LISTEN_SECONDS = 0.1


class MissingPackageError(ShmfeedError):
    """The demo's venue needs a package that is not installed."""


def play(plan: Plan, screen: Screen) -> int:
    """Run it, to the end or until a signal; the exit code. The main thread only."""
    with signals() as stop, no_settings_from_outside():
        try:
            figures = _on_stage(plan, screen, stop)
        except ImportError as error:
            raise MissingPackageError(str(error)) from None
    if figures is None:
        return EXIT_INTERRUPTED
    screen.close(figures)
    return EXIT_GOOD if figures.good else EXIT_FAILED


def _on_stage(plan: Plan, screen: Screen, stop: Stop) -> Figures | None:
    """The figures of the whole; None if it was stopped before it began."""
    streams = f"{len(plan.symbols)} symbols x {' '.join(RESOLUTIONS)}"
    with Stage(plan) as stage:
        screen.say(f"venue     {stage.url}, {streams}, in real time")
        screen.say(f"feeder    pid {stage.status()['pid']}, feed {plan.feed}")
        screen.say(f"starting  {plan.strategies} strategy processes")
        with Crew(plan.orders()) as crew:
            crew.await_ready(lambda: stop.asked)
            if stop.asked:
                return None
            counter = Counter(stage.status())
            crew.go()
            with screen:
                _watch(plan, stage, crew, counter, screen, stop)
            figures = counter.figures(stage.status(), crew)
        # The strategies have ended, and reported once more.
        return renewed(figures, crew)


def _watch(
    plan: Plan, stage: Stage, crew: Crew, counter: Counter, screen: Screen, stop: Stop
) -> None:
    """Show what happens until the time is over; halfway the venue hangs up once."""
    due, cut = screen.interval, plan.cut_at
    while (elapsed := counter.elapsed()) < plan.seconds and not stop.asked:
        if cut is not None and elapsed >= cut:
            cut = None
            stage.cut()
        if elapsed >= due:
            due += screen.interval
            screen.show(counter.figures(stage.status(), crew))
        left = min(_LISTEN_SECONDS, max(0.0, plan.seconds - elapsed))
        crew.listen(left)
