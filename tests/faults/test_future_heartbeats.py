"""A feeder is killed and leaves heartbeats that lie in the future.

Nothing would ever age such a sign. A reader of its segment must say that the feeder is
dead, and must find the segment's successor, by each of its verbs and out of each wait,
by each core.
"""

import itertools
import json
import os
import select
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Child
from support.ring_on_bytes import HOUR, prices

from shmfeed import core
from shmfeed.layout import H_ALIVE, H_RETIRED, H_TICK, WORD
from shmfeed.memory.words import boot_ns
from shmfeed.segment.mapping import place
from shmfeed.writer import create

STREAM = "A", "1h"
OLD, NEW = 3, 5  # closed bars in the first segment and in its successor
SECOND = 10**9
YEARS = 10 * 365 * 86_400 * SECOND  # ten of them
CORES = [core.build, "pure Python"] if core.build == "C" else ["pure Python"]

FEEDER = """
import sys
from support.ring_on_bytes import HOUR, prices
from shmfeed.writer import create
writer = create(sys.argv[1], history=10)
ring = writer.add_stream("A", "1h")
for number in range(int(sys.argv[2])):
    ring.append(number * HOUR, *prices(number))
print("made", flush=True)
sys.stdin.read()
"""

READER = """
import asyncio, json, sys, threading, time
import shmfeed
from shmfeed import aio, core
from shmfeed.feed import attach, wait

name, old = sys.argv[1], int(sys.argv[2])
VERBS = {
    "count": lambda feed, ring: ring.count,
    "view": lambda feed, ring: len(ring.view(9)),
    "snapshot": lambda feed, ring: len(ring.snapshot(9)),
    "latest": lambda feed, ring: ring.latest("open_time"),
    "forming": lambda feed, ring: ring.forming().open_time,
    "epoch": lambda feed, ring: ring.epoch > old_epoch,
    "status": lambda feed, ring: ring.status().health,
    "feed.status": lambda feed, ring: feed.status()["health"],
    "feed.connection": lambda feed, ring: feed.connection()["pid"] is not None,
    "feed.alive": lambda feed, ring: feed.alive(),
    "ring.wait": lambda feed, ring: ring.wait(old),
    "aio.wait_ring": lambda feed, ring: asyncio.run(aio.wait_ring(ring, old)),
}
SLEEPERS = {
    "ring.wait": lambda ring: ring.wait(old, 30),
    "wait": lambda ring: len(wait([ring], 30)),
    "aio.wait_ring": lambda ring: asyncio.run(aio.wait_ring(ring, old, 30)),
    "aio.wait": lambda ring: len(asyncio.run(aio.wait([ring], 30))),
}
ENDLESS = {
    "ring.wait": lambda ring: ring.wait(old),
    "wait": lambda ring: len(wait([ring])),
    "aio.wait_ring": lambda ring: asyncio.run(aio.wait_ring(ring, old)),
}

def bound():
    feed = attach(name)
    return feed, feed.ring("A", "1h")

def told(answers):
    print(json.dumps(answers), flush=True)

def in_threads(calls):
    answers = {}
    def run(what, call, ring):
        answers[what] = call(ring)
    threads = [
        threading.Thread(target=run, args=(what, call, bound()[1]))
        for what, call in calls.items()
    ]
    for thread in threads:
        thread.start()
    return threads, answers

rings = {what: bound() for what in VERBS}  # each verb finds the successor by itself
probe = bound()[1]
old_epoch = probe.epoch
sys.stdin.readline()
told({"core": core.build})
sys.stdin.readline()  # the feeder was killed, its signs are ahead
told({what: call(*rings[what]) for what, call in VERBS.items() if "status" in what})
if sys.argv[3] == "dead":
    threads, answers = in_threads(ENDLESS)
    for thread in threads:
        thread.join()
    sys.stdin.readline()
    told(answers)
threads, answers = in_threads(SLEEPERS)
sys.stdin.readline()
told({"sleeping": len(threads)})
sys.stdin.readline()  # the successor is there
while probe.count == old:  # reads look its name up once in a few milliseconds
    time.sleep(0.001)
told({what: call(*rings[what]) for what, call in VERBS.items()})
for thread in threads:
    thread.join()
sys.stdin.readline()
told(answers)
"""

FOUND = {
    "count": NEW,
    "view": NEW,
    "snapshot": NEW,
    "latest": NEW * HOUR,
    "forming": NEW * HOUR,
    "epoch": True,
    "status": "live",
    "feed.status": "live",
    "feed.connection": True,
    "feed.alive": True,
    "ring.wait": NEW,
    "aio.wait_ring": NEW,
}


def store(segment: Path, **words: int) -> None:
    """Store header words of a segment that no one maps for writing."""
    numbers = {"tick": H_TICK, "alive": H_ALIVE, "retired": H_RETIRED}
    with segment.open("r+b") as file:
        for name, value in words.items():
            file.seek(numbers[name] * WORD)
            file.write(struct.pack("=q", value))


Say = Callable[..., dict[str, object]]


@pytest.fixture
def start_reader(child: Child, feed_name: str) -> Callable[[str, str], Say]:
    """Start a feeder, attach a reader of this core, kill the feeder.

    Each call of what is returned sends the reader one line, and gives its next answer.
    """

    def start(wanted: str, health: str) -> Say:
        feeder = child(FEEDER, feed_name, OLD, env=environment(core.build))
        assert feeder.stdout.readline() == "made\n", feeder.communicate()[1]
        reader = child(READER, feed_name, OLD, health, env=environment(wanted))

        def say(meanwhile: Callable[[], None] = lambda: None) -> dict[str, object]:
            reader.stdin.write("\n")
            reader.stdin.flush()
            while not select.select([reader.stdout], [], [], 0.1)[0]:
                meanwhile()
            line = reader.stdout.readline()
            assert line, reader.communicate()[1]
            answers: dict[str, object] = json.loads(line)
            return answers

        assert say() == {"core": wanted}
        feeder.kill()
        feeder.wait()
        return say

    return start


def environment(wanted: str) -> dict[str, str]:
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    return os.environ | {"SHMFEED_PURE": str(int(wanted != "C")), "PYTHONPATH": path}


def succeed(say: Say, feed_name: str) -> None:
    """Put a successor in the segment's place; the reader finds it by each verb."""
    place(feed_name).segment.unlink()
    with create(feed_name, history=10, streams=[STREAM]) as writer:
        ring = writer.add_stream(*STREAM)
        for number in range(NEW):
            ring.append(number * HOUR, *prices(number))
        ring.update_forming(NEW * HOUR, *prices(NEW))
        assert say() == FOUND
        # A wait counts from its call, which may be as late as this: bars go on closing.
        numbers = itertools.count(NEW)

        def close_another() -> None:
            ring.append((number := next(numbers)) * HOUR, *prices(number))

        ended = say(close_another)
        assert ended.pop("wait") == ended.pop("aio.wait") == 1
        assert ended.keys() == {"ring.wait", "aio.wait_ring"}
        # A sleeper that found the successor before its bars counts from its first one.
        assert min(ended.values()) >= 1


@pytest.mark.parametrize("wanted", CORES)
@pytest.mark.parametrize("words", [("tick",), ("alive",), ("tick", "alive")], ids=str)
@pytest.mark.parametrize("retired", [0, 1])
def test_ten_years_ahead(
    start_reader, feed_name: str, wanted: str, words: tuple[str, ...], retired: int
) -> None:
    say = start_reader(wanted, "dead")
    signs = {"tick": 1, "alive": 1} | dict.fromkeys(words, boot_ns() + YEARS)
    store(place(feed_name).segment, **signs)
    assert set(say().values()) == {"dead"}
    # A wait without a limit ends with the feeder.
    assert say() == {"ring.wait": None, "wait": 0, "aio.wait_ring": None}
    assert say() == {"sleeping": 4}
    store(place(feed_name).segment, retired=retired)
    succeed(say, feed_name)


@pytest.mark.parametrize("wanted", CORES)
@pytest.mark.parametrize("word", ["tick", "alive"])
def test_a_minute_ahead(start_reader, feed_name: str, wanted: str, word: str) -> None:
    """Such a feeder counts as alive until another segment has the feed's name."""
    say = start_reader(wanted, "alive")
    signs = {"tick": 1, "alive": 1, word: boot_ns() + 60 * SECOND}
    store(place(feed_name).segment, **signs)
    assert "dead" not in say().values()
    assert say() == {"sleeping": 4}
    succeed(say, feed_name)
