"""A demo from start to end: its venue, its feeder, its strategies, its screen."""

import importlib.util
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

from shmfeed.demo.metrics import DemoMetrics, MetricsCollector, with_reports
from shmfeed.demo.options import MAX_ROWS, RESOLUTIONS, DemoOptions
from shmfeed.demo.relay import RelayedVenue, check_relay
from shmfeed.demo.report import JsonScreen, LineScreen, Screen, passed
from shmfeed.demo.workers import WorkerPool
from shmfeed.errors import ShmfeedError
from shmfeed.manager import get_websocket_manager
from shmfeed.segment.mapping import place
from shmfeed.settings.loading import VARIABLES
from shmfeed.simulator import Venue
from shmfeed.status import FeedStatus
from shmfeed.text import counted

EXIT_PASSED, EXIT_FAILED, EXIT_INTERRUPTED = 0, 1, 130
_VENUE_HISTORY = MAX_ROWS + 20
_START_SECONDS = 30.0
_POLL_SECONDS = 0.1
_SIGNALS = tuple(  # not every platform has all of them
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP")
    if hasattr(signal, name)
)


class MissingPackageError(ShmfeedError):
    """The demo's venue needs a package that is not installed."""


def run_demo(options: DemoOptions, screen: Screen) -> int:
    """Run a demo to its end or until a signal. Call it in the main thread.

    Returns:
        The exit code.

    Raises:
        MissingPackageError: The venue needs a package that is not installed.
        MissingProgramError: The relay needs a program or package that is not installed.
    """
    if options.relay:
        check_relay()
    with _stop_on_signal() as stop, without_settings():
        try:
            metrics = _run(options, screen, stop)
        except ImportError as error:
            raise MissingPackageError(str(error)) from None
    if metrics is None:
        return EXIT_INTERRUPTED
    screen.summarize(metrics)
    return EXIT_PASSED if passed(options, metrics) else EXIT_FAILED


def choose_screen(options: DemoOptions, as_json: bool) -> Screen:
    """Return the live table where there is a terminal and rich, else lines."""
    if as_json:
        return JsonScreen(options)
    terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    if terminal and importlib.util.find_spec("rich"):
        from shmfeed.demo.table import TableScreen  # noqa: PLC0415 # an extra

        return TableScreen(options)
    return LineScreen(options)


class VenueAndFeeder:
    """A venue in this process and a feeder in its own, for a `with` block.

    With a relay the feeder follows a leader, which has the venue's socket.

    Entering raises ImportError where websockets is not installed, and the errors of the
    manager's `start`. Leaving removes the feed and its lock file.
    """

    def __init__(self, options: DemoOptions) -> None:
        self._options = options
        self._venue = Venue(
            symbols=options.symbols,
            resolutions=RESOLUTIONS,
            seed=options.seed,
            history=_VENUE_HISTORY,
        )
        self._manager = get_websocket_manager(options.feed)
        self._relay = RelayedVenue(options) if options.relay else None

    def __enter__(self) -> Self:
        self._venue.start()
        try:
            self._manager.configure(
                symbols=self._options.symbols,
                resolutions=RESOLUTIONS,
                stop_with_manager=True,
                **self._source(),
            )
            self._manager.start(_START_SECONDS)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop()

    def _source(self) -> dict[str, Any]:
        if self._relay is not None:
            return self._relay.start(self._venue.url)
        return {"protocol": "wealthai", "endpoint": self._venue.url}

    def _stop(self) -> None:
        self._manager.stop()
        if self._relay is not None:
            self._relay.stop()
        self._venue.stop()
        # A feed's lock file stays, for its next feeder; this name has no next one.
        place(self._options.feed).lock.unlink(missing_ok=True)

    @property
    def url(self) -> str:
        """The venue's endpoint."""
        return self._venue.url

    def trouble(self) -> None:
        """Let the venue drop the connection, or kill the leader of a relay."""
        if self._relay is not None:
            self._relay.kill_leader()
        else:
            self._venue.drop_connections()

    def status(self) -> FeedStatus:
        """Return the manager's status."""
        return self._manager.get_status()


class StopRequest:
    """A signal handler that remembers a request to end the demo."""

    def __init__(self) -> None:
        self.requested = False

    def handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 # signal's
        self.requested = True


@contextmanager
def _stop_on_signal() -> Iterator[StopRequest]:
    """Turn Ctrl-C, SIGTERM and SIGHUP into a StopRequest.

    A signal that this process ignores, as under nohup, stays ignored.
    """
    stop = StopRequest()
    handled = [n for n in _SIGNALS if signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop.handle) for number in handled}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def without_settings() -> Iterator[None]:
    """Hide a feeder's settings from the environment: the demo has its own."""
    hidden = {name: os.environ.pop(name) for name in VARIABLES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _run(options: DemoOptions, screen: Screen, stop: StopRequest) -> DemoMetrics | None:
    """Return the metrics of the whole demo; None if it was stopped before it began."""
    with VenueAndFeeder(options) as running:
        screen.print_line(f"venue     {running.url}, {options.streams}, in real time")
        pid = running.status()["pid"]
        screen.print_line(f"feeder    pid {pid}, feed {options.feed}")
        count = options.strategies
        processes = counted(count, "strategy process", "strategy processes")
        screen.print_line(f"starting  {processes}")
        with WorkerPool(options.orders()) as workers:
            workers.wait_ready(lambda: stop.requested)
            if stop.requested:
                return None
            collector = MetricsCollector(running.status())
            workers.begin()
            with screen:
                _watch(options, running, workers, collector, screen, stop)
            metrics = collector.collect(running.status(), workers.reports)
        # The strategies have ended and sent their last reports.
        return with_reports(metrics, workers.reports)


def _watch(
    options: DemoOptions,
    running: VenueAndFeeder,
    workers: WorkerPool,
    collector: MetricsCollector,
    screen: Screen,
    stop: StopRequest,
) -> None:
    """Update the screen until the time is over, with the trouble halfway."""
    due, cut_at = screen.interval, options.cut_at
    while (elapsed := collector.elapsed()) < options.seconds and not stop.requested:
        if cut_at is not None and elapsed >= cut_at:
            cut_at = None
            running.trouble()
            collector.note_trouble()
        if options.relay:
            collector.note_leader(running.status())
        if elapsed >= due:
            due += screen.interval
            screen.update(collector.collect(running.status(), workers.reports))
        left = min(_POLL_SECONDS, max(0.0, options.seconds - elapsed))
        workers.poll(left)
