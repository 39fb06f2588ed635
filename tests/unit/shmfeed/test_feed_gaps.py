"""The holes that a reader sees: from the rows, with the states of the marks."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from support.ring_on_bytes import HOUR, prices

import shmfeed
from shmfeed import Hole
from shmfeed.bar import StreamKey
from shmfeed.identity import make_identity
from shmfeed.layout import E_HOLES
from shmfeed.memory.holes import Gap, HoleRecord
from shmfeed.writer import FeedWriter

KEY, OTHER = ("A", "1h"), ("B", "1h")
IDENTITY = make_identity("wealthai", "spot", ["venue"])


@pytest.fixture
def feeder(feed_name: str) -> Iterator[FeedWriter]:
    streams = [KEY, OTHER, ("A", "1d")]
    with shmfeed.create(
        feed_name, history=6, guard=2, streams=streams, identity=IDENTITY
    ) as feeder:
        yield feeder


@pytest.fixture
def feed(feeder: FeedWriter) -> Iterator[shmfeed.Feed]:
    with shmfeed.attach(feeder.name) as feed:
        yield feed


def close(feeder: FeedWriter, *numbers: int, key: StreamKey = KEY) -> None:
    ring = feeder.add_stream(*key)
    for number in numbers:
        ring.append(number * HOUR, *prices(number))


def hole(
    first: int,
    last: int,
    state: str = "open",
    reason: str = "history has not been asked for it yet",
    key: StreamKey = KEY,
) -> Hole:
    at = first * HOUR, last * HOUR, last - first + 1
    return Hole(*key, *at, state, reason)  # type: ignore[arg-type] # of the table


def record(first: int, last: int, state: str, reason: str) -> HoleRecord:
    at = first * HOUR, last * HOUR, last - first + 1
    return HoleRecord(*at, state, reason)  # type: ignore[arg-type] # of the tables


def test_rows_without_a_hole(feeder: FeedWriter, feed: shmfeed.Feed) -> None:
    assert feed.gaps() == []
    close(feeder, 1, 2, 3)
    assert feed.gaps() == []


def test_the_rows_show_them_before_the_feeder_says_a_word(
    feeder: FeedWriter, feed: shmfeed.Feed
) -> None:
    close(feeder, 1, 3, 4, 8)
    assert feed.gaps() == [hole(2, 2), hole(5, 7)]


@pytest.mark.parametrize(
    ("state", "reason", "told"),
    [
        ("open", "away", "history does not answer"),
        ("given_up", "absent", "history has no such bars"),
        ("given_up", "no_source", "there is no source of history"),
        ("none_at_venue", "accepted", "accepted by shmfeed gaps --accept"),
    ],
)
def test_the_mark_says_why(
    feeder: FeedWriter, feed: shmfeed.Feed, state: str, reason: str, told: str
) -> None:
    close(feeder, 1, 3, 6)
    feeder.set_holes(KEY, [record(4, 5, state, reason)])
    assert feed.gaps() == [hole(2, 2), hole(4, 5, state, told)]


def test_a_hole_that_is_filled_is_gone_whatever_the_mark_says(
    feeder: FeedWriter, feed: shmfeed.Feed
) -> None:
    close(feeder, 1, 3)
    feeder.set_holes(KEY, [record(2, 2, "open", "away")])
    ring = feed.ring(*KEY)
    block = np.repeat(ring.snapshot(1).block, 3, axis=1)
    times = block.view(np.int64)
    times[0] = np.array([1, 2, 3]) * HOUR
    times[1] = times[0] + HOUR
    feeder.replace_rows(*KEY, block)
    assert feed.gaps() == []


def test_a_hole_older_than_the_oldest_row_is_none(
    feeder: FeedWriter, feed: shmfeed.Feed
) -> None:
    close(feeder, 1, 3, 4)
    feeder.set_holes(KEY, [record(2, 2, "given_up", "absent")])
    close(feeder, 5, 6, 7)
    assert feed.gaps() == [hole(2, 2, "given_up", "history has no such bars")]
    close(feeder, 8)
    assert feed.gaps() == []


def test_merged_marks_hide_no_hole(feeder: FeedWriter, feed: shmfeed.Feed) -> None:
    close(feeder, 1, 3, 5, 7)
    feeder.set_holes(KEY, [record(2, 6, "given_up", "absent")])
    told = "history has no such bars"
    assert feed.gaps() == [hole(n, n, "given_up", told) for n in (2, 4, 6)]


def test_of_several_marks_the_worst_counts(
    feeder: FeedWriter, feed: shmfeed.Feed
) -> None:
    close(feeder, 1, 6)
    marks = [
        record(2, 3, "none_at_venue", "absent"),
        record(4, 5, "given_up", "refused"),
    ]
    feeder.set_holes(KEY, marks)
    told = "the source of history refuses the request"
    assert feed.gaps() == [hole(2, 5, "given_up", told)]


def test_damaged_marks_cost_no_hole(feeder: FeedWriter, feed: shmfeed.Feed) -> None:
    close(feeder, 1, 3)
    feeder.set_holes(KEY, [record(2, 2, "given_up", "absent")])
    at = feeder.geometry.entry_word(0) + E_HOLES
    feeder._words.raw[8 * (at + 1) : 8 * (at + 163)] = b"\xff" * (8 * 162)
    assert feed.gaps() == [hole(2, 2)]


@pytest.mark.parametrize(
    "look",
    [
        test_a_hole_that_is_filled_is_gone_whatever_the_mark_says,
        test_the_rows_show_them_before_the_feeder_says_a_word,
        test_merged_marks_hide_no_hole,
        test_damaged_marks_cost_no_hole,
    ],
)
def test_control_a_reader_of_marks_alone_is_misled(
    feeder: FeedWriter,
    feed: shmfeed.Feed,
    monkeypatch: pytest.MonkeyPatch,
    look: Callable[[FeedWriter, shmfeed.Feed], None],
) -> None:
    def gaps_of_marks(*_: object) -> list[Gap]:
        return [Gap(*mark[:3]) for mark in feeder.holes(KEY)]

    monkeypatch.setattr("shmfeed.holes._read_gaps", gaps_of_marks)
    with pytest.raises(AssertionError):
        look(feeder, feed)


class TestWhichStreams:
    def test_all_that_are_named(self, feeder: FeedWriter, feed: shmfeed.Feed) -> None:
        close(feeder, 1, 3)
        close(feeder, 1, 4, key=OTHER)
        day = ("A", "1d")
        close(feeder, 0, 48, key=day)
        daily = Hole(*day, 24 * HOUR, 24 * HOUR, 1, "open", hole(1, 1).reason)
        others = hole(2, 3, key=OTHER)
        assert feed.gaps() == [hole(2, 2), others, daily]
        assert feed.gaps("A") == [hole(2, 2), daily]
        assert feed.gaps(timeframe="60m") == [hole(2, 2), others]
        assert feed.gaps("B", "1h") == [others]
        assert feed.gaps("B") == [others]

    def test_an_unsubscribed_one_only_by_its_name(
        self, feeder: FeedWriter, feed: shmfeed.Feed
    ) -> None:
        close(feeder, 1, 3, key=OTHER)
        feeder.unsubscribe(*OTHER)
        assert feed.gaps() == []
        assert feed.gaps(*OTHER) == [hole(2, 2, key=OTHER)]

    @pytest.mark.parametrize(
        ("wanted", "told"),
        [
            (("C", "1h"), "does not carry C 1h; it carries: A 1h, B 1h, A 1d"),
            (("C", None), "does not carry C; it carries"),
            ((None, "1m"), "does not carry any 1m; it carries"),
        ],
    )
    def test_one_that_the_feed_does_not_carry(
        self, feed: shmfeed.Feed, wanted: tuple[str | None, str | None], told: str
    ) -> None:
        with pytest.raises(shmfeed.StreamNotFoundError, match=told):
            feed.gaps(*wanted)  # type: ignore[arg-type] # of the table

    @pytest.mark.parametrize(("symbol", "timeframe"), [("", None), (None, "7m")])
    def test_a_name_that_is_not_accepted(
        self, feed: shmfeed.Feed, symbol: str | None, timeframe: str | None
    ) -> None:
        with pytest.raises(shmfeed.BadArgumentError):
            feed.gaps(symbol, timeframe)  # type: ignore[arg-type] # the test


def test_rows_of_no_feeder_are_repaired_by_none(feed_name: str) -> None:
    with shmfeed.create(feed_name, history=6, streams=[KEY]) as writer:
        close(writer, 1, 3)
        with shmfeed.attach(feed_name) as feed:
            told = "no feeder repairs these rows"
            assert feed.gaps() == [hole(2, 2, "given_up", told)]


@pytest.mark.parametrize("history", [6, 9])
def test_the_next_feeder_finds_the_marks(feed_name: str, history: int) -> None:
    """With another history the segment is recreated; the marks are copied."""
    marks = [record(2, 2, "none_at_venue", "accepted")]
    with shmfeed.create(feed_name, 6, 2, streams=[KEY], identity=IDENTITY) as old:
        close(old, 1, 3, 5)
        old.set_holes(KEY, marks)
        assert old.holes(KEY) == marks
    with shmfeed.create(feed_name, history, 2, streams=[KEY]) as new:
        assert new.holes(KEY) == marks
        assert new.reused is (history == 6)
        with shmfeed.attach(feed_name) as feed:
            told = "accepted by shmfeed gaps --accept"
            assert feed.gaps() == [hole(2, 2, "none_at_venue", told), hole(4, 4)]


def test_status_does_not_count_bars_that_the_venue_lacks(feed_name: str) -> None:
    with shmfeed.create(feed_name, 20, streams=[KEY], identity=IDENTITY) as writer:
        close(writer, 1, 3, 6)
        writer.count("gaps", 3)
        writer.mark_stream(KEY, gaps=3, recovering=False)
        with shmfeed.attach(feed_name) as feed:
            for mark, left in (
                ([], 3),
                ([record(2, 2, "none_at_venue", "accepted")], 2),
                ([record(2, 2, "given_up", "absent")], 3),
                ([record(4, 5, "none_at_venue", "absent")], 1),
            ):
                writer.set_holes(KEY, mark)
                status = feed.status()
                assert (status["gaps"], status["streams"][0]["gaps"]) == (left, left)


def test_a_stream_that_is_not_carried_cannot_be_marked(feeder: FeedWriter) -> None:
    with pytest.raises(shmfeed.BadArgumentError, match="no stream C 1h to mark"):
        feeder.set_holes(("C", "1h"), [])
    feeder.close()
    with pytest.raises(shmfeed.FeedLostError):
        feeder.set_holes(KEY, [])
