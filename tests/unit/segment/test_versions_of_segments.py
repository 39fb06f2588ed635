"""Segments of the layout before, which are read and taken over, and of a newer one."""

import gc
import logging
import re

import pytest
from support.layouts import NEWER, make_newer, old_feed, replace_by_newer
from support.ring_on_bytes import HOUR, prices

import shmfeed
import wealthdata
from shmfeed.cli.main import main
from shmfeed.errors import (
    FeedBusyError,
    FeedLostError,
    SegmentFormatError,
    StreamNotFoundError,
)
from shmfeed.layout import E_GAPS, H_COUNTERS, H_RETIRED, VERSION
from shmfeed.listing import list_feeds
from shmfeed.segment.inventory import feeds_with_segment
from shmfeed.segment.mapping import open_segment, place
from shmfeed.segment.removal import clean_feed
from shmfeed.status import status_without_feed
from shmfeed.validation import FEED_VARIABLE
from shmfeed.writer import create
from wealthdata import attachment


@pytest.fixture(autouse=True)
def _detached(feed_name, monkeypatch):
    """Let wealthdata read this feed, and hold no segment after the test."""
    monkeypatch.setenv(FEED_VARIABLE, feed_name)
    yield
    attachment.detach()
    gc.collect()


A, B, C = ("A", "1h"), ("B", "1h"), ("C", "1h")


def fill(ring, count=30):
    for number in range(count):
        ring.append(number * HOUR, *prices(number))
    ring.update_forming(count * HOUR, *prices(count))


class TestLayout1:
    def test_all_reads_of_a_live_feed(self, feed_name, capsys) -> None:
        with old_feed(feed_name) as old, old.beating():
            ring = old.add(*A)
            fill(ring)
            feed = shmfeed.attach(feed_name)
            reader = feed.ring(*A)
            assert open_segment(place(feed_name)).geometry.version == 1
            assert (reader.count, reader.history, reader.guard) == (30, 100, 16)
            held = reader.view(20)
            assert held["close"].tolist() == [prices(n)[3] for n in range(10, 30)]
            assert len(reader.snapshot(5, include_now=True)) == 5
            assert reader.latest("close") == prices(30)[3]
            assert reader.forming().open_time == 30 * HOUR
            assert reader.wait(30, timeout=0) is None
            ring.append(30 * HOUR, *prices(30))
            assert reader.wait(30, timeout=5) == 31
            assert held.valid
            assert reader.status().health == "live"
            status = feed.status()
            assert (status["health"], status["state"]) == ("live", "connected")
            assert status["streams"][0]["count"] == 31
            assert feed.streams() == [A]
            ring = old.add(*B)
            assert feed.streams() == [A, B]
            old.catalog.unsubscribe(B, 1)
            assert feed.streams() == [A]
            assert feed.ring(*B).count == 0
            with pytest.raises(StreamNotFoundError, match="carries: A 1h"):
                feed.ring(*C)
            cut = shmfeed.cut([reader], 5)
            assert cut.values.shape == (5, 1, 5)
            (row,) = [row for row in list_feeds() if row["feed"] == feed_name]
            assert (row["health"], row["bars"]) == ("live", 31)
            assert main(["status", "--feed", feed_name]) == 0
            assert main(["ls", "--feed", feed_name]) == 0
            assert "live" in capsys.readouterr().out
            frame = wealthdata.get_price("A", count=5, frequency="1h")
            assert frame["close"].tolist() == [prices(n)[3] for n in range(26, 31)]
            with pytest.raises(FeedBusyError):
                create(feed_name)

    def test_a_feeder_takes_it_over_with_its_bars(self, feed_name, caplog) -> None:
        with old_feed(feed_name) as old:
            fill(old.add(*A))
            fill(old.add(*B), 7)
            old.words.ints[H_COUNTERS + 1] = 77  # messages
            old.words.ints[old.geometry.entry_word(1) + E_GAPS] = 3
        feed = shmfeed.attach(feed_name)
        ring = feed.ring(*A)
        held, epoch = ring.view(10), ring.epoch
        with caplog.at_level(logging.WARNING), create(feed_name, 100, 16, 4) as new:
            assert not new.reused
            assert caplog.messages == []
            assert open_segment(place(feed_name)).geometry.version == VERSION
            assert feed.streams() == [A, B]
            assert (ring.count, feed.ring(*B).count) == (30, 7)
            assert ring.epoch > epoch
            assert (ring.view(10).values == held.values).all()
            assert held.valid
            assert ring.forming().open_time == 30 * HOUR
            status = feed.status()
            assert status["messages"] == 77
            assert [stream["gaps"] for stream in status["streams"]] == [0, 3]
            new.add_stream(*A).append(30 * HOUR, *prices(30))
            assert ring.count == 31
            new.close(unlink=True)

    def test_a_damaged_one_keeps_its_intact_streams(self, feed_name, caplog) -> None:
        with old_feed(feed_name) as old:
            fill(old.add(*A))
            fill(old.add(*B))
            old.words.ints[old.geometry.entry_word(1)] = 3
        with create(feed_name, 100, 16, 4) as new:
            assert new.streams() == [A]
            assert new.add_stream(*A).reader.count == 30
            new.close(unlink=True)
        assert "stream 1: catalog word 0x3" in caplog.text

    def test_clean_removes_it_once_its_feeder_has_ended(self, feed_name) -> None:
        with old_feed(feed_name) as old:
            fill(old.add(*A))
            held = clean_feed(feed_name, remove=True)
            assert [item.state for item in held] == ["held"]
        assert [item.state for item in clean_feed(feed_name, True)] == ["unheld"]
        assert feed_name not in feeds_with_segment()


SAID = rf"layout version {NEWER}, this shmfeed reads 1 to {VERSION}: restart the feeder"


@pytest.fixture
def writer(feed_name):
    with create(feed_name, 100, 16, 4) as writer:
        fill(writer.add_stream(*A))
        yield writer


class TestNewer:
    """A feed whose feeder is of a newer shmfeed: never `dead`, never removed."""

    def test_who_comes_is_told_both_versions(self, writer, feed_name) -> None:
        make_newer(feed_name)
        with pytest.raises(SegmentFormatError, match=SAID):
            shmfeed.attach(feed_name, timeout=5)
        with pytest.raises(SegmentFormatError, match=SAID):
            wealthdata.get_price("A", count=5, frequency="1h")
        (row,) = [row for row in list_feeds() if row["feed"] == feed_name]
        assert row["health"] == "unreadable"
        assert f"layout version {NEWER}" in row["reason"]

    @pytest.mark.parametrize(
        "command", [["status"], ["tail", "A", "1h"], ["ls"], ["doctor"]]
    )
    def test_commands(self, writer, feed_name, capsys, command) -> None:
        make_newer(feed_name)
        assert main([*command, "--feed", feed_name]) != 0
        output, errors = capsys.readouterr()
        assert f"layout version {NEWER}" in output + errors
        # Doctor names other tests' feeds and processes, too.
        lines = [line for line in output.splitlines() if feed_name in line]
        assert not any(re.search(r"\bdead\b", line) for line in lines)

    def test_a_manager_does_not_call_it_dead(self, writer, feed_name) -> None:
        make_newer(feed_name)
        status = shmfeed.WebSocketManager(feed_name).get_status()
        assert status["health"] != "dead"
        assert f"layout version {NEWER}" in status["last_error"]
        assert status.keys() == status_without_feed(feed_name).keys()

    def test_an_attached_reader_is_told_once_its_feed_is_replaced(
        self, writer, feed_name
    ) -> None:
        feed = shmfeed.attach(feed_name)
        ring = feed.ring(*A)
        held = ring.view(10)
        assert len(wealthdata.get_price("A", count=5, frequency="1h")) == 5
        replace_by_newer(feed_name)
        writer._words.ints[H_RETIRED] = 1
        for read in (
            lambda: ring.count,
            lambda: ring.view(5),
            ring.status,
            feed.status,
            feed.streams,
            feed.alive,
            lambda: ring.wait(30, timeout=5),
            lambda: shmfeed.wait([ring], timeout=5),
            lambda: wealthdata.get_price("A", count=5, frequency="1h"),
        ):
            with pytest.raises(SegmentFormatError, match=SAID):
                read()
        assert held.valid
        with pytest.raises(FeedLostError):
            writer.beat()

    def test_a_held_one_is_neither_taken_nor_removed(self, writer, feed_name) -> None:
        make_newer(feed_name)
        before = place(feed_name).segment.read_bytes()
        with pytest.raises(FeedBusyError):
            create(feed_name)
        (item,) = clean_feed(feed_name, remove=True)
        assert item.state == "held"
        assert place(feed_name).segment.read_bytes()[: 8 * 8] == before[: 8 * 8]

    def test_one_without_a_feeder_is_recreated_and_the_log_says_why(
        self, writer, feed_name, caplog
    ) -> None:
        make_newer(feed_name)
        writer.close()
        with create(feed_name, 100, 16, 4) as new:
            assert new.streams() == []
            new.close(unlink=True)
        assert "recreating a segment without its bars" in caplog.text
        assert f"layout version {NEWER}" in caplog.text
