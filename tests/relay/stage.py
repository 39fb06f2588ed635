"""A venue, Redis, two hosts that may lead, and a follower: troubled, then judged."""

import contextlib
import heapq
import itertools
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from relay import faults
from relay.epochs import LogWatch
from relay.faults import FOLLOWER, LATE, LEADERS, Fault
from relay.hosts import Host, can_be_apart, send
from soak.truth import TIMEFRAME
from support import link_proxy
from support.link_proxy import LinkProxy
from support.redis_server import RedisServer
from support.venue_process import VenueProcess

from shmfeed.relay.keys import FeedKeys

SEED = 7
SYMBOLS = [f"S{number:02}USDT" for number in range(4)]
HISTORY = 300
WELL = ("live", "quiet", "closed")
_REST_LIMIT = 60_000
_LOOK_SECONDS = 0.05
_CHECK_SECONDS = 0.5
_SMALL = "1mb"  # less than an empty server uses: every write is refused, or evicts
_LEADER_OPTIONS = {
    "rest-share": 1.0,  # the venue is the test's own
    "dials-per-minute": 0,
    "reconnect-delay-base": 0.05,
    "reconnect-delay-max": 0.2,
}
_LINK_MODES = {
    faults.CUT: link_proxy.CUT,
    faults.STALL: link_proxy.STALL,
    faults.SLOW: link_proxy.SLOW,
}
_SERVICES = {
    faults.KILL_FEEDER: ("feeder",),
    faults.STOP_FEEDER: ("feeder",),
    faults.KILL_FOLLOWER: ("feeder",),
    faults.STOP_FOLLOWER: ("feeder",),
    faults.KILL_PUBLISHER: ("publisher",),
    faults.STOP_PUBLISHER: ("publisher",),
    faults.KILL_HOST: ("feeder", "publisher"),
    faults.STOP_HOST: ("feeder", "publisher"),
}


@dataclass
class Findings:
    """The findings of a run; it is good if `violations` is empty.

    Attributes:
        violations: Broken promises, one line each.
        played: Faults by kind.
        recoveries: Seconds from the end of the last fault of an episode until all is
            well again.
        leaderships: Leaderships that Redis has seen.
        flushes: Flushes in the log.
        compared: Rows of all hosts compared with the venue's.
    """

    violations: list[str] = field(default_factory=list)
    played: Counter[str] = field(default_factory=Counter)
    recoveries: list[float] = field(default_factory=list)
    leaderships: int = 0
    flushes: int = 0
    compared: int = 0


class Stage:
    """All of them, from entering to the end of the `with` block.

    Args:
        feed: The name of the feed, on all hosts and in Redis.
        folder: Where logs go.
        bar_faults: Faults of the venue's bars.
    """

    def __init__(self, feed: str, folder: Path, bar_faults: str = "") -> None:
        self.feed, self.found = feed, Findings()
        self.is_apart = can_be_apart()
        self._folder, self._bar_faults = folder, bar_faults
        self._end = contextlib.ExitStack()
        self._hosts: dict[str, Host] = {}
        self._links: dict[str, LinkProxy] = {}
        self._stopped: dict[Fault, list[int]] = {}

    def __enter__(self) -> Self:
        with self._end:  # ends what has begun where a part fails
            self._start()
            self._end = self._end.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._end.close()

    def _start(self) -> None:
        folder = self._folder / "redis"
        folder.mkdir()
        self._redis = RedisServer(folder)
        self._end.callback(self._redis.stop)
        self._venue = VenueProcess(
            protocol="binance",
            symbols=SYMBOLS,
            seed=SEED,
            history=0,
            faults=self._bar_faults,
            rest_limit=_REST_LIMIT,
        )
        self._venue.start()
        self._end.callback(self._venue.kill)
        for name in (*LEADERS, FOLLOWER, LATE):
            link = self._end.enter_context(LinkProxy(self._redis.port))
            self._links[name] = link
            self._hosts[name] = self._end.enter_context(self._host(name))
        self._watch = self._end.enter_context(
            LogWatch(self._redis.port, FeedKeys(self.feed).live)
        )
        for name in LEADERS:
            self._start_leader(name)
        self._start_follower(FOLLOWER)

    def _host(self, name: str) -> Host:
        return Host(
            name,
            self.feed,
            self._folder,
            apart=self.is_apart,
            symbols=SYMBOLS,
            seed=SEED,
            faults=self._bar_faults,
            history=HISTORY,
        )

    def _start_leader(self, name: str) -> None:
        host = self._hosts[name]
        settings = {
            "protocol": "binance",
            "market-type": "spot",
            "endpoint": self._venue.url,
            "rest-endpoint": self._venue.rest_url,
            "symbols": ",".join(SYMBOLS),
            "resolutions": TIMEFRAME,
            "history": HISTORY,
            **_LEADER_OPTIONS,
        }
        host.start("feeder", "run", "--feed", host.feed, *_options(settings))
        to = ("--to", self._url(name), "--as", self.feed)
        host.start("publisher", "publish", "--feed", host.feed, *to)

    def _start_follower(self, name: str) -> None:
        host = self._hosts[name]
        settings = {
            "protocol": "redis",
            "endpoint": self._url(name),
            "source-feed": self.feed,
            "history": HISTORY,
        }
        host.start("feeder", "run", "--feed", host.feed, *_options(settings))

    def _url(self, name: str) -> str:
        return f"redis://127.0.0.1:{self._links[name].port}/0"

    # An episode

    def play(self, planned: Sequence[Fault]) -> None:
        """Play faults, whose times count from now; meanwhile look at all rings."""
        began = time.monotonic()
        numbers = itertools.count()
        # At the same moment a fault ends before another one of its target begins.
        events = [(fault.begin, True, next(numbers), fault) for fault in planned]
        heapq.heapify(events)
        while events:
            due, begins, _, fault = heapq.heappop(events)
            self._look_until(began + due)
            if begins:
                self._begin(fault)
                self.found.played[fault.kind] += 1
                if fault.end > fault.begin:
                    heapq.heappush(events, (fault.end, False, next(numbers), fault))
            else:
                self._heal(fault)

    def recover(self, seconds: float) -> None:
        """Wait until all hosts are well, at most so long, and compare their rings."""
        began = time.monotonic()
        try:
            self.wait_well(seconds)
        except TimeoutError as error:
            self.found.violations.append(str(error))
            return
        self.found.recoveries.append(time.monotonic() - began)
        self._compare((*LEADERS, FOLLOWER), seconds)

    def finish(self, seconds: float) -> Findings:
        """Let one more follower join, compare it too, and return all findings."""
        self._start_follower(LATE)
        self._wait(lambda: self._trouble_of_follower(LATE), seconds)
        self._compare((LATE,), seconds)
        self.found.violations += self._watch.check.violations
        self.found.leaderships = len(self._watch.check.epochs)
        self.found.flushes = self._watch.entries
        return self.found

    def wait_well(self, seconds: float) -> None:
        """Wait until one host leads, the other stands by, and the follower follows."""
        self._wait(self._trouble, seconds)

    def logs(self) -> str:
        """Return the ends of all logs."""
        return "\n".join(host.logs() for host in self._hosts.values())

    def _wait(self, trouble: Any, seconds: float) -> None:
        end = time.monotonic() + seconds
        while told := trouble():
            if time.monotonic() > end:
                raise TimeoutError(f"not well after {seconds:g} s: {told}")
            time.sleep(_LOOK_SECONDS)

    def _trouble(self) -> str:
        """Return what is not well yet, "" for nothing."""
        statuses = {name: self._hosts[name].ask("status") for name in LEADERS}
        for name, status in statuses.items():
            if told := _unwell(name, status):
                return told
        relays = {name: status["relay"] or {} for name, status in statuses.items()}
        roles = sorted(str(relay.get("role")) for relay in relays.values())
        if roles != ["leader", "standby"]:
            return f"the roles are {roles}"
        for name, relay in relays.items():
            if error := relay.get("error"):
                return f"the publisher of {name} has an error: {error}"
        return self._trouble_of_follower(FOLLOWER)

    def _trouble_of_follower(self, name: str) -> str:
        status = self._hosts[name].ask("status")
        told = _unwell(name, status)
        relay = status["relay"] or {}
        if not told and (relay.get("role") != "follower" or relay.get("error")):
            told = f"{name} has the relay {relay}"
        return told

    def _compare(self, names: Sequence[str], seconds: float) -> None:
        """Wait until the rings equal the venue's truth up to now."""
        until = time.time_ns() // 1_000_000
        end = time.monotonic() + seconds
        for name in names:
            host = self._hosts[name]
            while differing := host.ask("differences", until=until):
                if time.monotonic() > end:
                    self.found.violations += [f"{name}: {one}" for one in differing]
                    break
                time.sleep(_LOOK_SECONDS)
            self.found.compared += host.ask("count", until=until)

    def _look_until(self, end: float) -> None:
        """Look at the rings of all hosts now and then until `end`."""
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _CHECK_SECONDS))
            for name in (*LEADERS, FOLLOWER):
                wrong = self._hosts[name].ask("wrong")
                self.found.violations += [f"{name}: {one}" for one in wrong]

    # Faults

    def _begin(self, fault: Fault) -> None:
        if fault.kind in _SERVICES:
            self._signal(fault)
        elif fault.kind in _LINK_MODES:
            self._link_of(fault).set(_LINK_MODES[fault.kind])
        else:
            self._trouble_redis(fault.kind)

    def _heal(self, fault: Fault) -> None:
        if fault.kind in _SERVICES:
            for pid in self._stopped.pop(fault):
                send(pid, signal.SIGCONT)
        elif fault.kind in _LINK_MODES:
            self._link_of(fault).set(link_proxy.PASS)
        elif fault.kind == faults.STOP_REDIS:
            self._redis.go_on()
        else:
            self._limit_memory("0", "noeviction")

    def _signal(self, fault: Fault) -> None:
        kills = fault.kind in faults.AT_ONCE
        number = signal.SIGKILL if kills else signal.SIGSTOP
        host = self._hosts[fault.target]
        pids = [host.signal(name, number) for name in _SERVICES[fault.kind]]
        if not kills:
            self._stopped[fault] = [pid for pid in pids if pid is not None]

    def _link_of(self, fault: Fault) -> LinkProxy:
        return self._links[fault.target.removeprefix("link ")]

    def _trouble_redis(self, kind: str) -> None:
        if kind == faults.RESTART:
            self._redis.restart()
        elif kind == faults.STOP_REDIS:
            self._redis.pause()
        elif kind == faults.FLUSH:
            self._redis.do("FLUSHALL")
        else:
            policy = "allkeys-lru" if kind == faults.EVICTING else "noeviction"
            self._limit_memory(_SMALL, policy)

    def _limit_memory(self, size: str, policy: str) -> None:
        self._redis.do("CONFIG", "SET", "maxmemory-policy", policy)
        self._redis.do("CONFIG", "SET", "maxmemory", size)


def _options(settings: dict[str, object]) -> Iterator[str]:
    for name, value in settings.items():
        yield from (f"--{name}", str(value))


def _unwell(name: str, status: dict[str, Any]) -> str:
    if status["pid"] is None or status["state"] != "connected":
        return f"the feeder of {name} is {status['state'] or 'away'}"
    if status["health"] not in WELL:
        return f"the feed of {name} is {status['health']}"
    return ""
