"""Wants of real processes: managers, strategies and feeders that are killed."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest
from support.feeding import tell
from support.waiting import until

import shmfeed
from shmfeed.control.peer import process_start
from shmfeed.errors import FeedNotFoundError
from shmfeed.segment.mapping import place
from shmfeed.simulator import Venue

pytest_plugins = ["support.command_process"]
pytestmark = pytest.mark.usefixtures("no_settings")

# Each line of standard input is code, and each answer a line of JSON.
PRELUDE = """
import json, sys
import shmfeed
feed, url, name = sys.argv[1:4]
def answer(call):
    try:
        return {"result": call()}
    except Exception as error:
        return {"error": type(error).__name__, "words": str(error)}
"""
LOOP = """
for line in sys.stdin:
    print(json.dumps(answer(lambda: eval(line))), flush=True)
"""
MANAGER = f"""{PRELUDE}
from shmfeed.control.client import ask
manager = shmfeed.get_websocket_manager(feed)
def start(*symbols, **more):
    given = dict(symbols=symbols, resolutions=["1m"], endpoint=url, history=100)
    manager.configure(**given, name=name or None, reconnect_delay_base=0.05, **more)
    manager.start()
def want(*symbols):
    manager.update_subscription(symbols=list(symbols))
{LOOP}
"""
STRATEGY = f"""{PRELUDE}
import os
held = []
def lease(*symbols, **more):
    one = shmfeed.lease(list(symbols), "1m", feed, **more)
    one.__enter__()
    held.append(one)
def leave():
    held.pop().__exit__(None, None, None)
def fork():
    child = os.fork()
    if not child:
        sys.stdin.read()
        os._exit(0)
    return child
{LOOP}
"""


class Told:
    """A process that does what it is told."""

    def __init__(self, code, *arguments):
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdin=pipe,
            stdout=pipe,
            text=True,
            start_new_session=True,
        )

    def __call__(self, code):
        """Evaluate this; return its result, or the name of its error."""
        self.begin(code)
        return self.outcome()

    def begin(self, code):
        print(code, file=self.process.stdin, flush=True)

    def outcome(self):
        found = json.loads(self.process.stdout.readline())
        return found.get("error") or found["result"]

    @property
    def pid(self):
        return self.process.pid

    def kill(self):
        """Kill it alone, not its children."""
        self.process.kill()
        self.process.wait()

    def close(self):
        if self.process.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
        self.process.communicate()


@pytest.fixture
def venue():
    symbols = ["BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"]
    with Venue(speed=None, symbols=symbols) as venue:
        yield venue


@pytest.fixture
def start(feed_name, venue):
    """Start managers and strategies; end all of them, and the feeder, afterwards."""
    started = []

    def one(code, name="bot"):
        started.append(Told(code, feed_name, venue.url, name))
        return started[-1]

    yield one
    pid = feeder_pid(feed_name)
    for told in started:
        told.close()
    if pid:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        until(lambda: not alive(pid))
    place(feed_name).segment.unlink(missing_ok=True)
    place(feed_name).socket.unlink(missing_ok=True)


def alive(pid):
    return process_start(pid) is not None


def status(feed):
    try:
        with shmfeed.attach(feed) as attached:
            return attached.status()
    except FeedNotFoundError:
        return {"pid": None, "wants": {}, "symbols": []}


def feeder_pid(feed):
    return status(feed)["pid"]


def symbols(feed):
    return set(status(feed)["symbols"])


def wanted(feed):
    """Return the kind of each claimant, its symbols, and whether it lingers."""
    found = []
    for one in status(feed)["wants"].values():
        initials = "".join(name[0] for name in one["symbols"])
        found.append((one["kind"], initials, one["ends_in"] is not None))
    return sorted(found)


def test_a_killed_managers_wants_are_found_by_the_next_of_its_name(feed_name, start):
    first = start(MANAGER)
    first('start("BTCUSDT")')
    assert first('want("BTCUSDT", "ETHUSDT")') is None
    pid = feeder_pid(feed_name)
    until(lambda: wanted(feed_name) == [("manager", "BE", False)])
    first.kill()
    until(lambda: wanted(feed_name) == [("manager", "BE", True)])
    assert symbols(feed_name) == {"BTCUSDT", "ETHUSDT"}
    other = start(MANAGER, "another")
    other('start("SOLUSDT")')
    assert symbols(feed_name) == {"BTCUSDT", "ETHUSDT", "SOLUSDT"}
    second = start(MANAGER)
    second('start("BTCUSDT", "XRPUSDT")')
    until(lambda: symbols(feed_name) == {"BTCUSDT", "XRPUSDT", "SOLUSDT"})
    assert feeder_pid(feed_name) == pid
    second("manager.stop()")
    until(lambda: wanted(feed_name) == [("manager", "S", False)])
    assert alive(pid)
    other("manager.stop()")
    until(lambda: not alive(pid))
    assert not place(feed_name).segment.exists()


def test_no_managers_stop_takes_data_from_another_or_from_a_lease(feed_name, start):
    one, other, strategy = start(MANAGER), start(MANAGER, "other"), start(STRATEGY)
    one('start("BTCUSDT", lease_linger=0.3)')
    other('start("BTCUSDT", "ETHUSDT")')
    pid = feeder_pid(feed_name)
    assert strategy('lease("SOLUSDT", "BTCUSDT")') is None
    one("manager.stop()")
    other('want("ETHUSDT")')
    assert symbols(feed_name) == {"BTCUSDT", "ETHUSDT", "SOLUSDT"}
    other("manager.stop()")
    until(lambda: symbols(feed_name) == {"BTCUSDT", "SOLUSDT"})
    assert feeder_pid(feed_name) == pid
    strategy("leave()")
    until(lambda: not alive(pid))


def test_wants_that_linger_keep_streams_and_no_feeder(feed_name, start):
    one, other = start(MANAGER), start(MANAGER, "other")
    one('start("BTCUSDT")')
    other('start("ETHUSDT")')
    pid = feeder_pid(feed_name)
    other.kill()
    until(lambda: ("manager", "E", True) in wanted(feed_name))
    assert symbols(feed_name) == {"BTCUSDT", "ETHUSDT"}
    one("manager.stop()")
    until(lambda: not alive(pid))
    assert not place(feed_name).segment.exists()


def test_the_wants_of_a_killed_manager_end(feed_name, start):
    one, other = start(MANAGER), start(MANAGER, "other")
    one('start("BTCUSDT")')
    other('start("ETHUSDT", manager_linger=0.2)')
    assert one('manager.get_status()["differs"]') == []
    assert other('manager.get_status()["differs"]') == []
    other.kill()
    until(lambda: wanted(feed_name) == [("manager", "B", False)])
    until(lambda: symbols(feed_name) == {"BTCUSDT"})


def test_a_killed_strategy_leaks_no_lease(feed_name, start):
    manager, strategy = start(MANAGER), start(STRATEGY)
    manager('start("BTCUSDT", lease_linger=0.2)')
    assert strategy('lease("ETHUSDT")') is None
    # The child has inherited the connection's number, and closes it.
    child = strategy("fork()")
    assert ("lease", "E", False) in wanted(feed_name)
    strategy.kill()
    until(lambda: symbols(feed_name) == {"BTCUSDT"})
    assert alive(child)


def test_a_stopped_strategy_keeps_its_lease(feed_name, start):
    manager, strategy = start(MANAGER), start(STRATEGY)
    manager('start("BTCUSDT", lease_linger=0.1)')
    assert strategy('lease("ETHUSDT")') is None
    os.kill(strategy.pid, signal.SIGSTOP)
    manager('want("BTCUSDT", "SOLUSDT")')
    assert symbols(feed_name) == {"BTCUSDT", "ETHUSDT", "SOLUSDT"}
    os.kill(strategy.pid, signal.SIGCONT)
    assert strategy("held[0].is_held") is True


def test_a_killed_feeders_successor_has_all_wants(feed_name, start):
    launcher, adopter = start(MANAGER), start(MANAGER, "adopter")
    ended, strategy = start(MANAGER, "ended"), start(STRATEGY)
    launcher('start("BTCUSDT")')
    adopter('start("ETHUSDT")')
    ended('start("SOLUSDT")')
    assert strategy('lease("XRPUSDT")') is None
    ended.kill()
    four = [
        ("lease", "X", False),
        ("manager", "B", False),
        ("manager", "E", False),
        ("manager", "S", True),
    ]
    until(lambda: wanted(feed_name) == four)
    pid = feeder_pid(feed_name)
    os.kill(pid, signal.SIGKILL)
    until(lambda: feeder_pid(feed_name) not in (None, pid))
    until(lambda: wanted(feed_name) == four)
    assert symbols(feed_name) == {"BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"}
    until(lambda: strategy("held[0].is_held"))


def test_feeder_and_manager_killed_together(feed_name, start):
    first = start(MANAGER)
    first('start("BTCUSDT", "ETHUSDT")')
    other = start(MANAGER, "other")
    other('start("SOLUSDT", launch="never")')
    until(lambda: len(wanted(feed_name)) == 2)
    pid = feeder_pid(feed_name)
    first.kill()
    os.kill(pid, signal.SIGKILL)
    until(lambda: not alive(pid))
    second = start(MANAGER)
    second('start("BTCUSDT")')
    until(
        lambda: wanted(feed_name) == [("manager", "B", False), ("manager", "S", False)]
    )
    assert symbols(feed_name) == {"BTCUSDT", "SOLUSDT"}


def test_a_manager_of_an_earlier_version_is_judged_by_its_process(feed_name, start):
    manager, old = start(MANAGER), start(MANAGER, "old")
    manager('start("BTCUSDT", manager_linger=0.2)')
    # One request at a time, and no connection that it holds.
    path = str(place(feed_name).socket)
    fields = "manager='old', symbols=['ETHUSDT'], resolutions=['1m']"
    assert old(f"ask({path!r}, 'subscribe', 10, {fields})") == {"streams": 2}
    assert tell(feed_name, "status")["wanted"] is True
    old.kill()
    until(lambda: symbols(feed_name) == {"BTCUSDT"})


def test_a_feeder_that_takes_over_has_all_wants(feed_name, start, command, venue):
    options = "--feed", feed_name, "--endpoint", venue.url, "--symbols", "BTCUSDT"
    run = command("run", *options, "--resolutions", "1m")
    until(lambda: feeder_pid(feed_name) == run.pid)
    manager, ended, strategy = start(MANAGER), start(MANAGER, "ended"), start(STRATEGY)
    manager('start("ETHUSDT", launch="never")')
    ended('start("XRPUSDT", launch="never")')
    assert strategy('lease("SOLUSDT")') is None
    ended.kill()
    four = [
        ("lease", "S", False),
        ("manager", "E", False),
        ("manager", "X", True),
        ("run", "B", False),
    ]
    until(lambda: wanted(feed_name) == four)
    following = command("run", *options, "--resolutions", "1m", "--takeover")
    until(lambda: feeder_pid(feed_name) == following.pid)
    assert run.wait(30) == 0
    until(lambda: wanted(feed_name) == four)
    until(lambda: strategy("held[0].is_held"))
    assert symbols(feed_name) == {"BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"}
