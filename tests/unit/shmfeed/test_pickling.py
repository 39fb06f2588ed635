"""Feeds and rings that are pickled attach again by name, in other processes too."""

import copy
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Child

import shmfeed
from shmfeed import FeedNotFoundError, StreamNotFoundError

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


@pytest.fixture
def writer(feed_name: str) -> Iterator[shmfeed.FeedWriter]:
    with shmfeed.create(feed_name, history=16, max_streams=4) as writer:
        for symbol in ("A", "B"):
            ring = writer.add_stream(symbol, "1s")
            for number in range(1, 4):
                price = float(number)
                ring.append(number * 1000, price, price, price, price, price)
        yield writer
        writer.close(unlink=True)


@pytest.fixture
def feed(writer: shmfeed.FeedWriter, feed_name: str) -> Iterator[shmfeed.Feed]:
    with shmfeed.attach(feed_name) as feed:
        yield feed


def sent(thing: Any) -> Any:
    return pickle.loads(pickle.dumps(thing))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_ring_reads_on(
    writer: shmfeed.FeedWriter, feed: shmfeed.Feed, protocol: int
) -> None:
    ring = feed.ring("A", "1s")
    again = pickle.loads(pickle.dumps(ring, protocol))
    assert isinstance(again, shmfeed.Ring)
    assert (again.symbol, again.timeframe) == ("A", "1s")
    assert again.view(3)["close"].tolist() == [1, 2, 3]
    writer.add_stream("A", "1s").append(4000, 4, 4, 4, 4, 4)
    assert again.count == ring.count == 4


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_feed_is_another_attachment(feed: shmfeed.Feed, protocol: int) -> None:
    again = pickle.loads(pickle.dumps(feed, protocol))
    assert again.name == feed.name
    assert again.streams() == feed.streams()
    again.close()
    assert feed.alive()


def test_rings_that_are_pickled_together_share_one_feed(feed: shmfeed.Feed) -> None:
    first, second, their_feed = sent([feed.ring("A", "1s"), feed.ring("B", "1s"), feed])
    assert first.count == second.count == 3
    their_feed.close()  # closes both, and nothing of this process's own
    for ring in (first, second):
        with pytest.raises(FeedNotFoundError, match="closed; attach again"):
            ring.view(1)
    assert feed.ring("A", "1s").count == 3


def test_a_pickle_holds_names_alone(feed: shmfeed.Feed) -> None:
    ring = feed.ring("A", "1s")
    ring.view(3)
    assert len(pickle.dumps(ring)) < 200


def test_a_feed_that_is_gone(feed: shmfeed.Feed, writer: shmfeed.FeedWriter) -> None:
    pickled = pickle.dumps(feed.ring("A", "1s"))
    writer.close(unlink=True)
    with pytest.raises(FeedNotFoundError, match="there is no feed"):
        pickle.loads(pickled)


def test_a_stream_that_is_gone(
    feed: shmfeed.Feed, writer: shmfeed.FeedWriter, feed_name: str
) -> None:
    pickled = pickle.dumps(feed.ring("A", "1s"))
    writer.close(unlink=True)
    with shmfeed.create(feed_name, history=16) as other:
        with pytest.raises(StreamNotFoundError, match="does not carry A 1s"):
            pickle.loads(pickled)
        other.close(unlink=True)


def test_a_closed_feed_is_not_pickled(feed: shmfeed.Feed) -> None:
    ring = feed.ring("A", "1s")
    feed.close()
    for thing in (feed, ring):
        with pytest.raises(FeedNotFoundError, match="closed; attach again"):
            pickle.dumps(thing)


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy])
def test_copies_are_attachments_or_rings_of_their_own(
    feed: shmfeed.Feed, way: Callable[[Any], Any]
) -> None:
    copied = way(feed)
    copied.close()
    ring = way(feed.ring("A", "1s"))
    assert ring.view(2)["close"].tolist() == [2, 3]


@pytest.mark.parametrize("way", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_slice_is_refused(feed: shmfeed.Feed, way: Callable[[Any], Any]) -> None:
    rows = feed.ring("A", "1s").view(3)
    with pytest.raises(TypeError, match=r"pickle rows.copy\(\) or ring.snapshot"):
        way(rows)
    assert sent(rows.copy())["close"].tolist() == [1, 2, 3]
    assert rows.valid


LOAD = """
import pickle, sys
ring = pickle.loads(bytes.fromhex(sys.argv[1]))
rows = pickle.loads(bytes.fromhex(sys.argv[2]))
print(*ring.view(3)["close"], *rows["close"], flush=True)
sys.stdin.readline()
print(ring.count, flush=True)
"""


@pytest.mark.parametrize("pure", ["", "1"])
def test_a_fresh_process_reads_on_both_cores(
    writer: shmfeed.FeedWriter,
    feed: shmfeed.Feed,
    child: Child,
    monkeypatch: pytest.MonkeyPatch,
    pure: str,
) -> None:
    monkeypatch.setenv("SHMFEED_PURE", pure)
    ring = feed.ring("A", "1s")
    things = ring, ring.snapshot(2)
    process = child(LOAD, *(pickle.dumps(thing).hex() for thing in things))
    assert process.stdout.readline() == "1.0 2.0 3.0 2.0 3.0\n"
    writer.add_stream("A", "1s").append(4000, 4, 4, 4, 4, 4)
    assert process.communicate("\n") == ("4\n", "")


WORKERS = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
import shmfeed

def read(ring, least):
    return ring.symbol, ring.wait(least, timeout=20), float(ring.latest("close"))

def main():
    feed = shmfeed.attach(sys.argv[1])
    rings = [feed.ring("A", "1s"), feed.ring("B", "1s")]
    for method in sys.argv[2:]:
        context = multiprocessing.get_context(method)
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            print(*pool.map(read, rings, [2, 2]))
        process = context.Process(target=read, args=(rings[0], 0))
        process.start()
        process.join()
        print(process.exitcode, flush=True)

if __name__ == "__main__":
    main()
"""


def test_workers_of_multiprocessing_take_rings(
    feed: shmfeed.Feed, child: Child, tmp_path: Path
) -> None:
    program = tmp_path / "workers.py"
    program.write_text(WORKERS)
    code = "import os, sys; os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    process = child(code, program, feed.name, "spawn", "forkserver")
    output, errors = process.communicate(timeout=60)
    read = "('A', 3, 3.0) ('B', 3, 3.0)\n0\n"
    assert (output, errors) == (2 * read, "")
