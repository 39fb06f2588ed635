"""Play the troubles of one feed, and record its state and health."""

import contextlib
import json
import os
import signal
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from night.plan import Trouble
from support.venue_process import VenueProcess

from shmfeed.errors import ShmfeedError
from shmfeed.manager import WebSocketManager

_SAMPLE_SECONDS = 0.1
_TRIES = 100
GOOD = ("live", "quiet")


class Sample(NamedTuple):
    """A manager's status at one moment.

    Attributes:
        time: time.monotonic().
        state: The connection's state.
        health: The feed's health.
    """

    time: float
    state: str
    health: str


class Played(NamedTuple):
    """A trouble as it was played, in time.monotonic()."""

    trouble: Trouble
    begin: float
    end: float


class Player:
    """One feed of the night: a venue, a manager and its feeder.

    Args:
        name: The feed's name.
        options: Options of its venue.
        settings: Settings of its manager.
        folder: Where its log goes.
    """

    def __init__(
        self, name: str, options: dict[str, Any], settings: dict[str, Any], folder: Path
    ) -> None:
        self.name = name
        self.venue = VenueProcess(**options)
        self.manager = WebSocketManager(name)
        self.log = folder / f"{name}.log"
        self.played: list[Played] = []
        self.samples: list[Sample] = []
        self.errors: list[str] = []
        self._settings = settings
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the venue and the feeder, and return once it is connected."""
        self.venue.start()
        self.manager.configure(
            feed=self.name,
            endpoint=self.venue.url,
            log_file=str(self.log),
            log_format="json",
            stop_with_manager=True,
            **self._settings,
        )
        self.manager.start()

    def play(self, troubles: list[Trouble], seconds: float) -> None:
        """Begin the night; `join` waits for its end."""
        for work in (lambda: self._play(troubles), lambda: self._watch(seconds)):
            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            self._threads.append(thread)

    def join(self) -> None:
        """Wait for the end of the night."""
        for thread in self._threads:
            thread.join()

    def stop(self) -> None:
        """End the feeder and the venue."""
        self._ended.set()
        self.join()
        try:
            self.manager.stop()
        finally:
            self.venue.kill()

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines of the feeder's log, with their time.monotonic()."""
        offset = time.time() - time.monotonic()
        found = [json.loads(line) for line in self.log.read_text().splitlines()]
        for line in found:
            line["monotonic"] = _seconds(line["time"]) - offset
        return found

    def _play(self, troubles: list[Trouble]) -> None:
        began = time.monotonic()
        for trouble in troubles:
            if self._ended.wait(began + trouble.begin - time.monotonic()):
                return
            begin = time.monotonic()
            try:
                self._trouble(trouble)
            except Exception as error:  # noqa: BLE001  # told in the verdict
                self.errors.append(f"{trouble}: {error!r}")
            self.played.append(Played(trouble, begin, time.monotonic()))

    def _watch(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self._ended.wait(_SAMPLE_SECONDS):
            with contextlib.suppress(ShmfeedError):
                status = self.manager.get_status()
                sample = Sample(time.monotonic(), status["state"], status["health"])
                self.samples.append(sample)

    def _trouble(self, trouble: Trouble) -> None:
        name = trouble.kind.split()[0].replace("-", "_")
        getattr(self, f"_{name}")(trouble)

    def _hold(self, trouble: Trouble) -> None:
        self._ended.wait(trouble.seconds)

    def _faults(self, trouble: Trouble, faults: str, *, drop: bool) -> None:
        self.venue.tell("set_faults", faults)
        if drop:
            self.venue.tell("drop_connections")
        self._hold(trouble)
        self.venue.tell("set_faults", "")

    def _refuse(self, trouble: Trouble, on: bool | int, **words: Any) -> None:
        self.venue.tell("refuse", on, **words)
        self.venue.tell("drop_connections")
        self._hold(trouble)
        self.venue.tell("refuse", False)

    def _away(self, trouble: Trouble) -> None:
        self._refuse(trouble, True)

    def _503(self, trouble: Trouble) -> None:
        self._refuse(trouble, 503, body="maintenance")

    def _429(self, trouble: Trouble) -> None:
        self._refuse(trouble, 429, wait=trouble.seconds)

    def _dead(self, trouble: Trouble) -> None:
        self.venue.kill()
        self._hold(trouble)
        self.venue.start()

    def _mute(self, trouble: Trouble) -> None:
        if trouble.kind == "mute stream":
            self._faults(trouble, "mute-stream:*/1s:asked", drop=False)
            return
        self.venue.tell("mute", True, pings=True)
        self._hold(trouble)
        self.venue.tell("mute", False)

    def _half_open(self, trouble: Trouble) -> None:
        self.venue.tell("half_open", True)
        self._hold(trouble)
        self.venue.tell("half_open", False)

    def _ban(self, trouble: Trouble) -> None:
        self._faults(trouble, f"ban:{trouble.seconds:.1f}s", drop=True)

    def _slow(self, trouble: Trouble) -> None:
        self._faults(trouble, f"slow-handshake:{trouble.seconds:.1f}s", drop=True)

    def _going(self, trouble: Trouble) -> None:
        self.venue.tell("announce_end", trouble.seconds)
        self._hold(trouble)

    def _cut(self, trouble: Trouble) -> None:
        self.venue.tell("drop_connections")

    def _close(self, trouble: Trouble) -> None:
        self.venue.tell("drop_connections", int(trouble.kind.split()[1]))

    def _feeder(self, trouble: Trouble) -> None:
        number = signal.SIGKILL if trouble.kind == "feeder killed" else signal.SIGSTOP
        pid = self._signal_feeder(number)
        if number == signal.SIGKILL:
            return
        self._hold(trouble)
        with contextlib.suppress(ProcessLookupError):  # it was replaced
            os.kill(pid, signal.SIGCONT)

    def _signal_feeder(self, number: signal.Signals) -> int:
        """Send a signal to the feeder, which may just be replaced; return its pid."""
        for _ in range(_TRIES):
            pid = self.manager.get_status()["pid"]
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
                    return pid
            self._ended.wait(_SAMPLE_SECONDS)
        raise RuntimeError("there is no feeder")


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
