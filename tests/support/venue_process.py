"""A venue in a process of its own, and its end in the process that plays troubles.

The process reads one JSON object a line: a method of the venue, and its arguments.
"""

import json
import subprocess
import sys
import time
from collections import deque
from typing import Any

from shmfeed.simulator import Venue

_METHODS = {
    "announce_end",
    "drop_connections",
    "half_open",
    "mute",
    "refuse",
    "set_faults",
}
_KEPT = 100  # requests, of which no caller asks: the process's memory stays as it is
_COUNTS = ("connections", "frames", "rest_requests", "rest_weight")


class VenueProcess:
    """A venue that can be told what to do, killed, and started again at its port."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.dials: list[
            float
        ] = []  # time.monotonic() of each, all processes' together
        self.url = self.rest_url = ""
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def start(self) -> None:
        """Start the process, at its old port if it had one."""
        self._process = subprocess.Popen(
            [sys.executable, __file__, json.dumps(self.options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        answer = self._read()
        self.url, self.options["port"] = answer["url"], answer["port"]
        self.rest_url = answer["rest_url"]

    def tell(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the venue; return its result."""
        assert self._process is not None
        assert self._process.stdin is not None
        call = {"method": method, "args": args, "kwargs": kwargs}
        print(json.dumps(call), file=self._process.stdin, flush=True)
        return self._read()["result"]

    def kill(self) -> None:
        """Kill the process, once its dials are known."""
        if self._process is None:
            return
        try:
            self.dials += self.tell("dials")
        finally:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _read(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the venue ended: {self._process.wait(10)}")
        return json.loads(line)


def serve(options: dict[str, Any]) -> None:
    """Run a venue until standard input ends."""
    venue = started(options)
    venue.log.last_rest = deque(maxlen=_KEPT)
    try:
        places = {"url": venue.url, "rest_url": venue.rest_url, "port": venue.port}
        print(json.dumps(places), flush=True)
        for line in sys.stdin:
            call = json.loads(line)
            print(json.dumps({"result": perform(venue, **call)}), flush=True)
    finally:
        venue.stop()


def started(options: dict[str, Any]) -> Venue:
    """Return a venue that listens; its port may be in use for another moment."""
    for _ in range(50):
        try:
            return Venue(**options).start()
        except OSError:
            time.sleep(0.1)
    return Venue(**options).start()


def perform(venue: Venue, method: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    if method == "dials":
        return list(venue.log.dial_times)
    if method == "counts":
        return {name: getattr(venue.log, name) for name in _COUNTS}
    assert method in _METHODS, method
    return getattr(venue, method)(*args, **kwargs)


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
