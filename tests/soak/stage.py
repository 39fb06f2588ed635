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
from typing import Any, Self

import numpy as np
from soak.load import Load
from soak.truth import SECOND, TIMEFRAME, Truth, is_final
from support.venue_process import VenueProcess

import shmfeed
from shmfeed.errors import ShmfeedError
from shmfeed.manager import WebSocketManager
from shmfeed.segment.mapping import place

SEED = 7
WELL = ("live", "quiet")
_LOOK_SECONDS = 0.01
_READER = str(Path(__file__).with_name("reader.py"))


@dataclass
class Findings:
    """The findings of a soak; it is good if `violations` is empty.

    Attributes:
        violations: Broken promises, one line each.
        recoveries: Seconds from a kill until the feed was well.
        busy: Seconds of each of these that the next feeder was ready to run, and
            other programs had the CPU.
        cpu, clock: Seconds of each reader's call.
        late: Calls that took too long by the clock, time off the CPU not counted.
    """

    violations: list[str] = field(default_factory=list)
    recoveries: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    kills: int = 0
    cuts: int = 0
    reads: int = 0
    rows: int = 0
    kept: int = 0
    lapped: int = 0  # kept frames whose rows were overwritten, and that said so
    compared: int = 0  # rows of the ring with the truth, at the end
    holes: int = 0  # bars that the venue lacks, among these
    messages: int = 0
    reconnects: int = 0
    rest_requests: int = 0
    late: int = 0
    cpu: list[list[float]] = field(default_factory=list)
    clock: list[float] = field(default_factory=list)

    def summary(self) -> str:
        """Return the figures in one line."""
        longest = max((max(one, default=0.0) for one in self.cpu), default=0.0)
        by_clock = max(self.clock, default=0.0)
        slowest = max(self.recoveries, default=0.0)
        return (
            f"{self.kills} kills, recoveries up to {slowest:.2f} s; "
            f"{self.reads} reads, {self.rows} rows, {self.compared} rows compared; "
            f"calls up to {longest * 1e3:.1f} ms of CPU, {by_clock * 1e3:.1f} ms"
        )


class Stage:
    """One feed under load: a context manager.

    Args:
        feed: The feed's name.
        load: The load.
        folder: Where the feeder's log goes.
        **settings: Settings of the manager beside its default ones.
    """

    def __init__(self, feed: str, load: Load, folder: Path, **settings: Any) -> None:
        self.feed, self.load = feed, load
        self.found = Findings()
        self.venue = VenueProcess(
            protocol="binance",
            symbols=load.names,
            seed=SEED,
            # A round of updates takes the venue a moment, which comes on top.
            update_interval=max(0.01, 0.9 * load.symbols / load.messages),
            history=0,
            faults=load.bar_faults,
        )
        self.manager = WebSocketManager(feed)
        self.readers: list[subprocess.Popen[str]] = []
        self._settings = settings
        self._log = folder / f"{feed}.log"
        self._truth = Truth(SEED, load.bar_faults)
        self._feed: shmfeed.Feed | None = None

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the readers, the feeder and the venue."""
        if self._feed is not None:
            self._feed.close()
        for reader in self.readers:
            reader.kill()
            reader.communicate()
        try:
            self.manager.stop()
        finally:
            self.venue.kill()
            place(self.feed).lock.unlink(missing_ok=True)

    def _start(self) -> None:
        self.venue.start()
        self.manager.configure(
            feed=self.feed,
            protocol="binance",
            market_type="spot",
            symbols=self.load.names,
            resolutions=[TIMEFRAME],
            endpoint=self.venue.url,
            rest_endpoint=self.venue.rest_url,
            history=self.load.history,
            log_file=str(self._log),
            stop_with_manager=True,
            **self._settings,
        )
        self.manager.start()
        self._feed = shmfeed.attach(self.feed)
        self.wait_well(None, 60.0)
        for number in range(self.load.readers):
            self.readers.append(self._reader(number))
        for reader in self.readers:
            assert reader.stdout is not None
            assert json.loads(reader.stdout.readline() or "null") == "ready"

    def _reader(self, number: int) -> subprocess.Popen[str]:
        given = {"feed": self.feed, "symbols": self.load.names, "seed": SEED}
        given |= {"faults": self.load.bar_faults, "chance": number}
        given["reads"] = self.load.reads
        return subprocess.Popen(
            [sys.executable, _READER, json.dumps(given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_well(self, old_pid: int | None, seconds: float) -> float:
        """Wait until a feeder other than `old_pid` serves; return the seconds."""
        began = time.monotonic()
        while not self._is_well(old_pid):
            if time.monotonic() - began > seconds:
                raise TimeoutError(f"not well after {seconds} s: {self.status()}")
            time.sleep(_LOOK_SECONDS)
        return time.monotonic() - began

    def _is_well(self, old_pid: int | None) -> bool:
        status = self.status()
        is_new = status["pid"] not in {None, old_pid}
        return is_new and status["state"] == "connected" and status["health"] in WELL

    def status(self) -> dict[str, Any]:
        """Return the status of the feed, as a reader sees it."""
        assert self._feed is not None
        with contextlib.suppress(ShmfeedError):
            return dict(self._feed.status())
        return {"pid": None, "state": "", "health": ""}

    def kill(self, seconds: float = 60.0) -> float | None:
        """Kill the feeder; return the seconds until all is well, None if it is not."""
        pid = self.status()["pid"]
        if pid is None:
            return None
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        self.found.kills += 1
        needed = self._recovered("kill", pid, seconds)
        if needed is not None:
            self.found.recoveries.append(needed)
            self.found.busy.append(_put_off(self.status()["pid"]))
        return needed

    def cut(self) -> None:
        """Cut the feeder's connections."""
        self.venue.tell("drop_connections")
        self.found.cuts += 1

    def cut_and_wait(self, seconds: float = 30.0) -> float | None:
        """Cut them; return the seconds until all is well, None if it is not."""
        before = self.venue.tell("counts")["connections"]
        self.cut()
        end = time.monotonic() + seconds
        while self.venue.tell("counts")["connections"] == before:
            if time.monotonic() > end:
                break
            time.sleep(_LOOK_SECONDS)
        return self._recovered("cut", None, seconds)

    def _recovered(self, from_: str, pid: int | None, seconds: float) -> float | None:
        try:
            return self.wait_well(pid, seconds)
        except TimeoutError as error:
            self.found.violations.append(f"no recovery from a {from_}: {error}")
            return None

    def set_faults(self, faults: str) -> None:
        """Put faults in force beside those of the bars."""
        self.venue.tell(
            "set_faults", ",".join(filter(None, (self.load.bar_faults, faults)))
        )

    def finish(
        self, settle: float = 3.0, seconds: float = 60.0, *, restart: bool = True
    ) -> Findings:
        """End the readers, compare the ring with the truth, and return all findings.

        Args:
            settle: Seconds before the last restart whose bars are not compared, as
                REST may correct them later.
            seconds: The longest wait for open holes.
            restart: Kill the feeder once more, so that all rows are compared with
                REST.
        """
        for reader in self.readers:
            self._take_result(*reader.communicate(timeout=60))
            if reader.returncode:
                self.found.violations.append(f"a reader ended: {reader.returncode}")
        self.readers.clear()
        self.set_faults("")
        time.sleep(settle)
        until = self.now() - int(settle * 1000)
        if restart:
            self.kill(seconds)
        end = time.monotonic() + seconds
        while self.differences(until) and time.monotonic() < end:
            time.sleep(0.5)
        self.found.violations += self.differences(until, count=True)
        counts = self.venue.tell("counts")
        self.found.messages = counts["frames"]
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
            times = np.array(rows.open_time)
            chosen = times <= until - SECOND
            times, values = times[chosen], np.array(rows.values)[:, chosen]
            if not len(times):
                found.append(f"{symbol}: there are no rows")
                continue
            truth = self._truth.bars(symbol, int(times[0]), until - SECOND)
            wanted = [bar.open_time for bar in truth]
            found += _compared(symbol, times.tolist(), wanted)
            wrong = self._truth.wrong(symbol, times, values, final=True)
            found += [f"{symbol}: the row of {t} is wrong" for t in times[wrong]]
            doubtful = ~is_final(np.array(rows["flags"])[chosen])
            found += [f"{symbol}: the row of {t} is doubtful" for t in times[doubtful]]
            if count:
                self.found.compared += len(times)
                span = int(times[-1] - times[0]) // SECOND + 1
                self.found.holes += span - len(wanted)
        return found

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


def _put_off(pid: int | None) -> float:
    """Return for how long a process's first thread was ready and did not run."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except OSError:  # it is gone
        return 0.0


def _compared(symbol: str, times: list[int], wanted: list[int]) -> list[str]:
    missing, more = sorted({*wanted} - {*times}), sorted({*times} - {*wanted})
    found = [f"{symbol}: the row of {time} is missing" for time in missing]
    found += [f"{symbol}: the venue has no bar of {time}" for time in more]
    if times != sorted({*times}):
        found.append(f"{symbol}: rows are repeated or out of order")
    return found
