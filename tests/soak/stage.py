"""A venue, a manager with its feeder, and readers: troubled, and judged at the end."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from soak.incidents import Load
from soak.recovery import Recovery
from soak.truth import SECOND, TIMEFRAME, Truth, differences
from support.staged_feed import StagedFeed
from support.venue_process import VenueProcess

from shmfeed.errors import ShmfeedError

SEED = 7
# Request weight of a minute, ten times Binance's: with a kill each 20 s a feed of 50
# streams asks for more history than one ever does, and would wait for the limit.
REST_LIMIT = 60_000
_LOOK_SECONDS = 0.01
_AFTERMATH_SECONDS = 3.0  # of a fault of REST: a wait that it asked for
_AUDIT_SECONDS, _AUDIT_LINES = 120.0, 20
_LONGEST_KEPT = 200.0  # s; in the last thirds of a run as many come as go
_READER = str(Path(__file__).with_name("reader.py"))


@dataclass
class Findings:
    """The findings of a soak; it is good if `violations` is empty.

    Attributes:
        violations: Broken promises, one line each.
        recoveries: Those from each kill.
        cpu, clock: Seconds of each reader's call.
        seconds: The time under load.
        messages: Those of the venue's sockets in this time.
        late: Calls that took too long by the clock, time off the CPU not counted.
    """

    violations: list[str] = field(default_factory=list)
    recoveries: list[Recovery] = field(default_factory=list)
    kills: int = 0
    cuts: int = 0
    mutes: int = 0
    reads: int = 0
    rows: int = 0
    kept: int = 0
    lapped: int = 0  # kept frames whose rows were overwritten, and that said so
    compared: int = 0  # rows of the ring with the truth, at the end
    holes: int = 0  # bars that the venue lacks, among these
    audit: str = ""  # the exit code and the last line of `shmfeed audit`
    seconds: float = 0.0
    messages: int = 0
    reconnects: int = 0
    rest_requests: int = 0
    late: int = 0
    cpu: list[list[float]] = field(default_factory=list)
    clock: list[float] = field(default_factory=list)


class Stage(StagedFeed):
    """One feed under load: a context manager.

    Args:
        feed: The feed's name.
        load: The load.
        folder: Where the feeder's log goes.
        **settings: Settings of the manager beside its default ones.
    """

    def __init__(self, feed: str, load: Load, folder: Path, **settings: Any) -> None:
        venue = VenueProcess(
            protocol="binance",
            symbols=load.names,
            seed=SEED,
            # A round of updates takes the venue a moment, which comes on top.
            update_interval=max(0.01, 0.9 * load.symbols / load.messages),
            history=0,
            faults=load.bar_faults,
            rest_limit=REST_LIMIT,
        )
        super().__init__(feed, venue, folder)
        self.load = load
        self.found = Findings()
        self.readers: list[subprocess.Popen[str]] = []
        self._settings = settings
        self._truth = Truth(SEED, load.bar_faults)
        self._recovery: Recovery | None = None
        self._began = 0.0
        self._recovery_ends = 0.0
        self._troubles: set[str] = set()
        self._troubled_until = 0.0

    def _start(self) -> None:
        self._start_feed(
            protocol="binance",
            market_type="spot",
            symbols=self.load.names,
            resolutions=[TIMEFRAME],
            rest_endpoint=self.venue.rest_url,
            history=self.load.history,
            **self._settings,
        )
        self.wait_well(60.0)
        for number in range(self.load.readers):
            self.readers.append(self._reader(number))
        for reader in self.readers:
            assert reader.stdout is not None
            assert json.loads(reader.stdout.readline() or "null") == "ready"
        self._began = time.monotonic()

    def _end_children(self) -> None:
        for reader in self.readers:
            reader.kill()
            reader.communicate()

    def _reader(self, number: int) -> subprocess.Popen[str]:
        given = {"feed": self.name, "symbols": self.load.names, "seed": SEED}
        given |= {"faults": self.load.bar_faults, "chance": number}
        given["reads"] = self.load.reads
        given["longest"] = min(_LONGEST_KEPT, self.load.seconds / 3)
        return subprocess.Popen(
            [sys.executable, _READER, json.dumps(given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_well(self, seconds: float) -> None:
        """Wait until a feeder serves all streams."""
        recovery = Recovery(time.monotonic(), None, self.venue.pid)
        while not recovery.look(self.status(), time.monotonic()):
            if time.monotonic() > recovery.began + seconds:
                raise TimeoutError(f"not well: {recovery} {self.status()}")
            time.sleep(_LOOK_SECONDS)

    def status(self) -> dict[str, Any]:
        """Return the status of the feed, as a reader sees it."""
        assert self._feed is not None
        with contextlib.suppress(ShmfeedError):
            return dict(self._feed.status())
        return {"pid": None, "state": "", "health": ""}

    # Incidents

    def kill(self, seconds: float = 60.0) -> None:
        """Kill the feeder; `look` follows its recovery, `seconds` at the longest."""
        self.wait_recovered()
        pid = self.status()["pid"]
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        self.found.kills += 1
        self._recovery = Recovery(time.monotonic(), pid, self.venue.pid)
        self._recovery_ends = time.monotonic() + seconds

    def cut(self) -> None:
        """Cut the feeder's connections."""
        self.venue.tell("drop_connections")
        self.found.cuts += 1
        self._trouble()

    def cut_and_wait(self, seconds: float = 30.0) -> None:
        """Cut them, and wait until all is well."""
        before = self._connections()
        self.cut()
        end = time.monotonic() + seconds
        while self._connections() == before and time.monotonic() < end:
            time.sleep(_LOOK_SECONDS)
        try:
            self.wait_well(seconds)
        except TimeoutError as error:
            self.found.violations.append(f"no recovery from a cut: {error}")

    def _connections(self) -> int:
        count: int = self.venue.tell("counts")["connections"]
        return count

    def mute(self, on: bool) -> None:
        """Drop what the venue says on its sockets, or let it speak again."""
        self.venue.tell("mute", on)
        self.found.mutes += on
        self._set_trouble("mute", on)

    def set_faults(self, faults: str) -> None:
        """Put faults in force beside those of the bars."""
        self.venue.tell(
            "set_faults", ",".join(filter(None, (self.load.bar_faults, faults)))
        )
        self._set_trouble("faults", bool(faults))

    def look(self) -> bool:
        """Look at the recovery under way; return True while there is one."""
        recovery, now = self._recovery, time.monotonic()
        if recovery is None:
            return False
        if self._troubles or recovery.began < self._troubled_until:
            recovery.is_troubled = True
        if recovery.look(self.status(), now):
            self.found.recoveries.append(recovery)
            self._recovery = None
        elif now > self._recovery_ends:
            told = f"{recovery} {self.status()}"
            self.found.violations.append(f"no recovery from a kill: {told}")
            self._recovery = None
        return self._recovery is not None

    def wait_recovered(self) -> None:
        """Wait until the recovery under way has ended."""
        while self.look():
            time.sleep(_LOOK_SECONDS)

    def _set_trouble(self, name: str, on: bool) -> None:
        if on:
            self._troubles.add(name)
        elif name in self._troubles:
            self._troubles.discard(name)
            self._troubled_until = time.monotonic() + _AFTERMATH_SECONDS
        self._trouble()

    def _trouble(self) -> None:
        if self._recovery is not None:
            self._recovery.is_troubled = True

    # The end

    def finish(self, settle: float = 13.0, seconds: float = 90.0) -> Findings:
        """End the readers, compare the ring with the truth, and return all findings.

        Then the market closes: of bars that close during an audit REST may correct
        some, which only the next comparison would find. Two more kills let all rows be
        compared with REST: one before the close, and one once the last rows settled,
        whose warm-up does not reach as far back by as many bars.

        Args:
            settle: Seconds after the market's close, more than `rest_settle`.
            seconds: The longest wait for open holes.
        """
        self.wait_recovered()
        self.found.seconds = time.monotonic() - self._began
        self.found.messages = self.venue.tell("counts")["frames"]
        for reader in self.readers:
            self._take_result(*reader.communicate(timeout=60))
            if reader.returncode:
                self.found.violations.append(f"a reader ended: {reader.returncode}")
        self.readers.clear()
        self.mute(False)
        self.set_faults("")
        self.kill(seconds)
        self.wait_recovered()
        until = self.now()
        self.set_faults(",".join(f"halt:{name}" for name in self.load.names))
        time.sleep(settle)
        self.kill(seconds)
        self.wait_recovered()
        end = time.monotonic() + seconds
        while self.differences(until) and time.monotonic() < end:
            time.sleep(0.5)
        self.found.violations += self.differences(until, count=True)
        self.found.audit, differing = audit(self.name)
        self.found.violations += differing
        counts = self.venue.tell("counts")
        self.found.rest_requests = counts["rest_requests"]
        self.found.reconnects = counts["connections"] - 1
        return self.found

    def now(self) -> int:
        """Return the venue's time: it runs at the host's."""
        return time.time_ns() // 1_000_000

    def differences(self, until: int, *, count: bool = False) -> list[str]:
        """Compare the rows that close up to `until` with the truth, bar for bar."""
        assert self._feed is not None
        found: list[str] = []
        for symbol in self.load.names:
            rows = self._feed.ring(symbol, TIMEFRAME).snapshot(self.load.history)
            found += differences(self._truth, symbol, rows, until)
            if count:
                self._count_compared(symbol, np.array(rows.open_time), until)
        return found

    def _count_compared(
        self, symbol: str, times: "np.ndarray[Any, Any]", until: int
    ) -> None:
        times = times[times <= until - SECOND]
        if len(times):
            first, last = int(times[0]), int(times[-1])
            self.found.compared += len(times)
            held = self._truth.bars(symbol, first, until - SECOND)
            self.found.holes += (last - first) // SECOND + 1 - len(held)

    def _take_result(self, output: str, _errors: str | None) -> None:
        if not output.strip():
            self.found.violations.append("a reader has no result")
            return
        given = json.loads(output.splitlines()[-1])
        found, tally = self.found, given["tally"]
        found.reads += tally["reads"]
        found.rows += tally["rows"]
        found.kept += tally.get("kept", 0)
        found.lapped += tally.get("lapped", 0)
        found.violations += given["lines"]
        unsaid = tally.get("violations", 0) - len(given["lines"])
        if unsaid:
            found.violations.append(f"and {unsaid} more of this reader")
        found.cpu.append(given["cpu"])
        found.clock += given["clock"]
        found.late += given["late"]


def audit(feed: str) -> tuple[str, list[str]]:
    """Audit a feed by the command line; return a summary, and violations."""
    command = [sys.executable, "-m", "shmfeed", "audit", "--feed", feed]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_AUDIT_SECONDS, check=False
    )
    lines = (done.stdout + done.stderr).splitlines() or [""]
    summary = f"exit {done.returncode}, {lines[-1]}"
    if not done.returncode:
        return summary, []
    return summary, [f"shmfeed audit: {summary}", *lines[-_AUDIT_LINES:]]
