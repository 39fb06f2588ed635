"""T23: the wall clock steps, a daylight saving begins, the host is suspended.

Manager, feeder and reader are real processes on one host, whose clocks a preloaded
library moves. The venue of the first tests is another host, with the right time.
"""

import json
import time

import pytest
from support.compiling import NEEDS_COMPILER
from support.shifted_clocks import ShiftedClocks
from support.waiting import until

from shmfeed.simulator import Venue

pytestmark = [NEEDS_COMPILER, pytest.mark.timeout(120)]

HOUR = 3_600_000
STALE_AFTER = 60.0  # s
# The last second before the clocks of Berlin go forward, and back: ms UTC.
DAYLIGHT_SAVING = (1_774_745_999_000, 1_792_889_999_000)

# A manager and a reader. It answers each line, an expression, with its value.
PROGRAM = """
import json, sys, threading, time
import shmfeed, wealthdata
from shmfeed.simulator import Venue
feed, url = sys.argv[1:3]
KEY = ("BTCUSDT", "1h")
venue = None if url != "here" else Venue(speed=None).__enter__()
manager = shmfeed.WebSocketManager(feed)
manager.configure(
    symbols=["BTCUSDT"], resolutions=["1h"], endpoint=venue.url if venue else url,
    **json.loads(sys.argv[4]),
    history=100, stale_after=float(sys.argv[3]), reconnect_delay_base=0.05,
)
manager.start(timeout=30)
reader = shmfeed.attach(feed)
ring = reader.ring(*KEY)
wealthdata.use(feed=feed)
states = []
manager.on_state_change(lambda old, new: states.append(new))

def look():
    status = reader.status()
    rows = ring.snapshot(50)
    forming = ring.forming()
    beat = reader.heartbeat()
    (stream,) = status["streams"]
    return {
        "pid": status["pid"], "state": status["state"], "health": status["health"],
        "age": stream["age"], "offset": status["clock_offset"], "gaps": status["gaps"],
        "opens": rows.open_time.tolist(),
        "closes": rows.close_time.tolist(),
        "flags": [shmfeed.flag_names(flags) for flags in rows["flags"].tolist()],
        "forming": forming.open_time if forming else None,
        "alive": beat.is_alive, "tick": beat.tick, "wall": time.time(),
        "manager": manager.get_status()["state"], "states": states,
        "malformed": status["malformed"], "reconnects": status["reconnects"],
    }

def frame():
    bars = wealthdata.get_price("BTCUSDT", count=2, frequency="1h", on_stale="raise")
    return [str(one) for one in bars.index]

waited = []

def wait_in_thread(after, timeout):
    def wait():
        begun = time.monotonic()
        waited.append([ring.wait(after, timeout=timeout), time.monotonic() - begun])
    threading.Thread(target=wait).start()

def push(opened, price=1.5):
    venue.push_bar(*KEY, opened, 1.0, 2.0, 0.5, price)

print("there", flush=True)
for line in sys.stdin:
    print(json.dumps(eval(line)), flush=True)
manager.stop()
if venue is not None:
    venue.__exit__(None, None, None)
"""


class Host:
    """The processes on the host, and its clocks."""

    def __init__(self, child, folder, feed, url, ahead=0.0, **settings) -> None:
        self.clocks = ShiftedClocks(folder)
        self.clocks.step(ahead)
        environ = self.clocks.environ | {"TZ": "Europe/Berlin"}
        given = json.dumps(settings)
        self._process = child(PROGRAM, feed, url, STALE_AFTER, given, env=environ)
        line = self._process.stdout.readline()
        assert line == "there\n", self._process.communicate()[1]

    def ask(self, expression: str):
        self._process.stdin.write(expression + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, self._process.communicate()[1]
        return json.loads(line)

    def look(self) -> dict:
        return self.ask("look()")

    def look_later(self, seconds: float = 0.8) -> dict:
        """Return what is seen once the feeder's main loop has turned for a while."""
        first, end = self.look()["tick"], time.monotonic() + seconds
        until(lambda: time.monotonic() > end and self.look()["tick"] != first)
        return self.look()

    def end(self) -> None:
        out, err = self._process.communicate(timeout=30)
        assert (out, self._process.returncode) == ("", 0), err


def this_hour() -> int:
    """Return the open time of the hour bar that is now under way, or is next."""
    return int(time.time() + 30) * 1000 // HOUR * HOUR


# Binance states its time with each message; the house protocol need not.
BINANCE = {"protocol": "binance", "market_type": "spot", "close_grace": 0.3}


@pytest.fixture
def venue():
    with Venue(speed=None) as running:
        yield running


def push(venue, opened, tells_time=False) -> None:
    """Push a bar without a flag: the next one closes it, or the venue's clock."""
    told = int(time.time() * 1000) if tells_time else None
    venue.push_bar("BTCUSDT", "1h", opened, 1.0, 2.0, 0.5, 1.5, event_time=told)


def begin(host, venue, now: int, tells_time=False) -> dict:
    """Push three hours that have ended, and the beginning of one; return the status."""
    for opened in range(now - 3 * HOUR, now + 1, HOUR):
        push(venue, opened, tells_time)
    until(lambda: host.look()["forming"] == now)
    until(lambda: host.look()["health"] == "live")
    return host.look()


CHANGES = {"tick", "wall", "age", "offset"}


@pytest.mark.parametrize(
    ("settings", "tells_time"),
    [(BINANCE, True), ({"protocol": "wealthai"}, False)],
    ids=["binance", "wealthai"],
)
def test_a_step_of_the_wall_clock_changes_nothing(
    feed_name, child, tmp_path, settings, tells_time
) -> None:
    with Venue(speed=None, protocol=settings["protocol"]) as venue:
        step_the_clock(
            Host(child, tmp_path, feed_name, venue.url, **settings), venue, tells_time
        )


def step_the_clock(host, venue, tells_time) -> None:
    now = this_hour()
    before = begin(host, venue, now, tells_time)
    frame, begun = host.ask("frame()"), time.monotonic()
    assert before["opens"] == [now - 3 * HOUR, now - 2 * HOUR, now - HOUR]
    assert tells_time == (before["offset"] is not None)
    steps = [3600.0, -3600.0, -3600.0]
    steps += [moment / 1000 - time.time() for moment in DAYLIGHT_SAVING]
    shift = 0.0
    host.ask("wait_in_thread(3, 60)")
    for step in steps:
        wanted = step if abs(step) > 3600 else shift + step
        host.clocks.step(wanted - shift)
        shift = wanted
        seen = host.look_later()
        assert abs(seen["wall"] - time.time() - shift) < 1
        assert not tells_time or abs(seen["offset"] + shift) < 5  # this does change
        assert seen["age"] < time.monotonic() - begun + 5
        assert {k: v for k, v in seen.items() if k not in CHANGES} == {
            k: v for k, v in before.items() if k not in CHANGES
        }
        assert host.ask("frame()") == frame  # which raises where it is stale
    # The next bars have the venue's times, and the waiting reader wakes.
    push(venue, now + HOUR)
    until(lambda: host.look()["forming"] == now + HOUR)
    seen = host.look()
    assert seen["opens"] == [*before["opens"], now]
    assert seen["closes"] == [one + HOUR for one in seen["opens"]]
    assert (seen["gaps"], seen["malformed"], seen["reconnects"]) == (0, 0, 0)
    until(lambda: host.ask("waited"))
    ((count, seconds),) = host.ask("waited")
    assert count == 4
    assert seconds < time.monotonic() - begun + 5
    host.end()


def test_control_ages_by_a_clock_that_steps_are_stale(
    feed_name, venue, child, tmp_path
) -> None:
    """The control: what the test above looks for, where CLOCK_BOOTTIME steps too."""
    now = this_hour()
    host = Host(child, tmp_path, feed_name, venue.url)
    before = begin(host, venue, now)
    host.clocks.suspend(3600.0)
    until(lambda: host.look()["health"] == "stale" or host.look()["reconnects"])
    assert host.look()["age"] > 3599
    assert host.look()["pid"] == before["pid"]
    host.end()


def test_a_suspended_host_takes_up_where_it_was(feed_name, child, tmp_path) -> None:
    """An hour passes for every process of the host; the venue is one of them."""
    now = this_hour() - HOUR  # the suspend ends in the present hour
    ahead = now / 1000 + 1800 - time.time()
    host = Host(child, tmp_path, feed_name, "here", ahead)
    host.ask(f"[push(one) for one in range({now - 3 * HOUR}, {now + 1}, {HOUR})]")
    until(lambda: host.look()["forming"] == now)
    until(lambda: host.look()["health"] == "live")
    before = host.look()
    host.ask("wait_in_thread(3, 60)")
    host.clocks.suspend(3600.0)
    seen = host.look()
    assert seen["alive"]  # though its last heartbeat is an hour old
    assert seen["pid"] == before["pid"]  # the manager did not replace it
    assert seen["opens"] == before["opens"]
    until(lambda: host.look()["reconnects"], 5.0)
    until(lambda: host.look()["state"] == "connected")
    host.ask(f"push({now + HOUR})")
    until(lambda: host.look()["forming"] == now + HOUR)
    until(lambda: host.look()["health"] == "live")
    seen = host.look()
    assert seen["opens"] == [*before["opens"], now]
    assert seen["closes"] == [one + HOUR for one in seen["opens"]]
    assert "unconfirmed" in seen["flags"][-1]  # half an hour of it was not heard
    assert (seen["gaps"], seen["malformed"], seen["pid"]) == (0, 0, before["pid"])
    assert "error" not in seen["states"]
    until(lambda: host.ask("waited"))
    ((count, seconds),) = host.ask("waited")
    assert count == 4
    assert seconds < 60  # of the time that the process ran
    host.end()
