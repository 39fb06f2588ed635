"""Facts of varying length: what fits, what is left out, and damage."""

import json

import pytest

import shmfeed
from shmfeed.errors import FeedLostError
from shmfeed.layout import H_TEXT, TEXT_WORDS, WORD
from shmfeed.memory.note import pack_facts, read_facts
from shmfeed.memory.words import Latch
from shmfeed.writer import create

ROOM = (TEXT_WORDS - 1) * WORD


def unpacked(facts):
    cell = pack_facts(facts, TEXT_WORDS)
    assert len(cell) == TEXT_WORDS * WORD
    size = int.from_bytes(cell[:WORD], "little")
    assert size <= ROOM
    return json.loads(cell[WORD : WORD + size])


def claimant(number, symbols):
    names = [f"SYMBOL{n}USDT" for n in range(symbols)]
    return {"name": f"bot {number}", "count": symbols, "symbols": names}


def test_facts_that_fit_are_kept_whole():
    facts = {"writer": 3, "wants": [claimant(n, 20) for n in range(50)], "relay": {}}
    assert unpacked(facts) == facts
    assert unpacked({}) == {}


def test_lists_of_the_last_are_left_out_before_counts():
    wants = [claimant(n, 500) for n in range(64)]
    found = unpacked({"writer": 3, "wants": wants})
    assert found["writer"] == 3
    assert len(found["wants"]) == 64
    whole = [one for one in found["wants"] if "symbols" in one]
    assert 3 < len(whole) < 64
    assert whole == wants[: len(whole)]
    assert {one["count"] for one in found["wants"]} == {500}


def test_more_claimants_than_there_is_room_for():
    found = unpacked({"wants": [claimant(n, 1) for n in range(5000)]})
    assert 1000 < len(found["wants"]) < 5000


def test_text_that_no_list_explains_is_dropped():
    assert unpacked({"relay": {"error": "x" * ROOM}}) == {}


@pytest.fixture
def writer(feed_name):
    with create(feed_name, 10) as made:
        yield made
        made.close(unlink=True)


def test_the_status_has_the_wants_of_the_present_writer(writer, feed_name):
    one = {"kind": "run", "name": "bot", "pid": 7, "since": 5, "count": 1}
    writer.set_text("wants", [one | {"ends_at": None, "id": "secret of the feeder"}])
    with shmfeed.attach(feed_name) as feed:
        assert feed.status()["wants"] == {"run bot 7": one | {"ends_in": None}}
        writer.close()
        with create(feed_name, 10) as successor:
            assert feed.status()["wants"] == {}
            successor.set_text("relay", {})
            assert feed.status()["wants"] == {}


@pytest.mark.parametrize(
    "damage",
    [
        b"\xff" * 64,
        b"[1, 2]",
        b'{"writer": 1, "wants": 7}',
        b'{"writer": 1, "wants": [7, null, {}]}',
        b'{"writer": 1, "wants": [{"kind": "run", "name": 5}]}',
        b"[" * 60_000,
        b"",
    ],
)
def test_damaged_facts_cost_nothing_else(writer, feed_name, damage):
    catalog = writer._catalog
    cell = len(damage).to_bytes(WORD, "little") + damage.ljust(ROOM, b" ")
    Latch(catalog.words, H_TEXT, TEXT_WORDS).write(cell)
    with shmfeed.attach(feed_name) as feed:
        assert feed.status()["wants"] == {}
    read_facts(catalog.words, catalog.geometry)


def test_a_writer_that_lost_the_feed_publishes_nothing(writer):
    writer.close()
    with pytest.raises(FeedLostError):
        writer.set_text("wants", [])
