"""A reader before a feed of a newer layout names both versions, and never says dead."""

import asyncio
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import shmfeed
import shmfeed.aio
import wealthdata
from shmfeed import SegmentFormatError
from shmfeed.cli.main import main
from shmfeed.layout import (
    CONNECTED,
    H_ALIVE,
    H_RETIRED,
    H_STATE,
    H_TICK,
    MAGIC,
    MAGIC_SHIFT,
    OLDEST_VERSION,
    VERSION,
    WORD,
)
from shmfeed.segment import mapping
from shmfeed.segment.mapping import place
from wealthdata import attachment

NEWER = VERSION + 1
TOLD = f"has layout version {NEWER}, this shmfeed reads {OLDEST_VERSION} to {VERSION}"


class Succession:
    """A feed, attached before a newer feeder recreates it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.writer = shmfeed.create(name, history=16, max_streams=2)
        self.writer.add_stream("A", "1s").append(1000, 1, 1, 1, 1, 1)
        self.feed = shmfeed.attach(name)
        self.ring = self.feed.ring("A", "1s")

    def recreate(self, content: bytes | None = None) -> None:
        """Rename a new segment over the old one and retire that, as a feeder does."""
        path, successor = place(self.name).segment, place(self.name).successor
        ready = struct.pack("=q", MAGIC << MAGIC_SHIFT | NEWER)
        successor.write_bytes(content or ready + path.read_bytes()[WORD:])
        successor.chmod(0o600)
        successor.rename(path)
        self.writer._words.ints[H_RETIRED] = 1


@pytest.fixture
def succession(feed_name: str) -> Iterator[Succession]:
    one = Succession(feed_name)
    with one.feed, one.writer:
        yield one


VERBS: dict[str, Callable[[shmfeed.Feed, shmfeed.Ring], Any]] = {
    "view": lambda feed, ring: ring.view(1),
    "snapshot": lambda feed, ring: ring.snapshot(1),
    "latest": lambda feed, ring: ring.latest("close"),
    "forming": lambda feed, ring: ring.forming(),
    "count": lambda feed, ring: ring.count,
    "ring status": lambda feed, ring: ring.status(),
    "wait": lambda feed, ring: ring.wait(1, timeout=5),
    "wait for ever": lambda feed, ring: ring.wait(1),
    "wait for many": lambda feed, ring: shmfeed.wait([ring], timeout=5),
    "aio": lambda feed, ring: asyncio.run(shmfeed.aio.wait_ring(ring, 1, timeout=5)),
    "status": lambda feed, ring: feed.status(),
    "connection": lambda feed, ring: feed.connection(),
    "alive": lambda feed, ring: feed.alive(),
    "streams": lambda feed, ring: feed.streams(),
    "ring": lambda feed, ring: feed.ring("A", "1s"),
    "attach": lambda feed, ring: shmfeed.attach(feed.name),
}


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_names_both_versions(succession: Succession, verb: str) -> None:
    kept = succession.ring.view(1)
    succession.recreate()
    for _ in range(2):  # and stays so
        with pytest.raises(SegmentFormatError, match=TOLD):
            VERBS[verb](succession.feed, succession.ring)
    assert kept["close"].tolist() == [1]


def test_a_sleeping_reader_is_told(succession: Succession) -> None:
    async def wait_and_recreate() -> None:
        ring = succession.ring
        waiting = asyncio.create_task(shmfeed.aio.wait_ring(ring, 1, timeout=20))
        await asyncio.sleep(0)  # it sleeps now
        succession.recreate()
        with pytest.raises(SegmentFormatError, match=TOLD):
            await waiting

    asyncio.run(wait_and_recreate())


@pytest.mark.parametrize("command", ["status", "tail", "ls"])
def test_commands(
    succession: Succession, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    succession.recreate()
    arguments = ["A", "1s"] if command == "tail" else []
    code = main([command, *arguments, "--feed", succession.name])
    output = "".join(capsys.readouterr())
    assert (code, TOLD in output, "dead" in output) == (1, True, False)


def test_get_price(succession: Succession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHMFEED_FEED", succession.name)
    succession.writer._words.ints[H_STATE] = CONNECTED
    succession.writer.beat()  # the machine may have stood still since the last one
    assert len(wealthdata.get_price("A", count=1, frequency="1s")) == 1
    succession.recreate()
    for _ in range(2):
        with pytest.raises(SegmentFormatError, match=TOLD):
            wealthdata.get_price("A", count=1, frequency="1s")
    attachment.detach()


def test_another_file_leaves_the_old_bars(succession: Succession) -> None:
    """A file that is no segment does not count as the feed's successor."""
    succession.recreate(b"data of another program")
    assert succession.ring.view(1)["close"].tolist() == [1]


def test_without_the_check_the_feed_is_called_dead(
    succession: Succession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control."""
    monkeypatch.setattr(mapping, "has_newer_layout", lambda where: False)
    succession.recreate()
    for word in (H_ALIVE, H_TICK):
        succession.writer._words.ints[word] = 1
    assert succession.ring.status().health == "dead"
