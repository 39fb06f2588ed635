"""The marks that a writer leaves for a status: state, reasons, counters, times."""

import time
from collections.abc import Iterator

import pytest

from shmfeed.errors import BadArgumentError
from shmfeed.layout import (
    E_AWAY,
    E_BACK,
    E_COUNTERS,
    E_REASON,
    E_SILENCE,
    E_WHY,
    H_CLOCK_KNOWN,
    H_CLOCK_OFFSET,
    H_NEXT_ATTEMPT,
    H_REPAIR_GRACE,
    H_STATE_SINCE,
    REASONS,
    STREAM_COUNTERS,
    WHY_WORDS,
)
from shmfeed.memory.note import unpack_text
from shmfeed.memory.words import Latch, boot_ns
from shmfeed.writer import FeedWriter, create

KEY, OTHER = ("A", "1h"), ("B", "1h")
SECOND = 1_000_000_000


@pytest.fixture
def writer(feed_name: str) -> Iterator[FeedWriter]:
    with create(feed_name, history=5, max_streams=2, streams=[KEY, OTHER]) as writer:
        yield writer


def word(writer: FeedWriter, number: int, entry: int | None = None) -> int:
    at = 0 if entry is None else writer.geometry.entry_word(entry)
    value: int = writer._words.ints[at + number]
    return value


def why(writer: FeedWriter, entry: int = 0) -> str:
    at = writer.geometry.entry_word(entry) + E_WHY
    return unpack_text(Latch(writer._words, at, WHY_WORDS).read())


class TestExplain:
    @pytest.mark.parametrize("reason", REASONS)
    def test_stores_the_reason_and_its_words(
        self, writer: FeedWriter, reason: str
    ) -> None:
        writer.explain(KEY, reason, "all 40 messages: times off the grid")  # type: ignore[arg-type] # from the table
        assert REASONS[word(writer, E_REASON, 0)] == reason
        assert why(writer) == "all 40 messages: times off the grid"
        assert (word(writer, E_REASON, 1), why(writer, 1)) == (0, "")

    def test_an_empty_reason_clears_it(self, writer: FeedWriter) -> None:
        writer.explain(KEY, "dropped", "all 3 messages")
        writer.explain(KEY, "", "")
        assert (word(writer, E_REASON, 0), why(writer)) == (0, "")

    @pytest.mark.parametrize("text", ["x" * 97, "é" * 49, "\ud800" * 200, "𝄞" * 30])
    def test_long_words_are_shortened(self, writer: FeedWriter, text: str) -> None:
        writer.explain(KEY, "refused", text)
        assert why(writer).endswith("..")
        assert len(why(writer).encode()) <= 8 * (WHY_WORDS - 1)

    def test_text_as_long_as_the_room_is_kept(self, writer: FeedWriter) -> None:
        writer.explain(KEY, "refused", "x" * 96)
        assert why(writer) == "x" * 96

    def test_an_unknown_reason_changes_nothing(self, writer: FeedWriter) -> None:
        writer.explain(KEY, "dropped", "all 3 messages")
        with pytest.raises(BadArgumentError, match="reason is 'lost'; it must be"):
            writer.explain(KEY, "lost", "")  # type: ignore[arg-type] # the test
        assert why(writer) == "all 3 messages"

    def test_a_stream_that_is_not_carried(self, writer: FeedWriter) -> None:
        with pytest.raises(BadArgumentError, match="C 1h"):
            writer.explain(("C", "1h"), "dropped", "")


class TestConnection:
    def test_a_stream_that_was_away_comes_back(self, writer: FeedWriter) -> None:
        writer.set_repair_grace(5)
        writer.mark_connection([KEY], is_connected=False)
        away = word(writer, E_AWAY, 0)
        assert 0 < away <= boot_ns()
        writer.mark_connection([KEY, OTHER], is_connected=False)
        assert word(writer, E_AWAY, 0) == away  # the first loss counts
        assert word(writer, E_AWAY, 1) >= away
        writer.mark_connection([KEY], is_connected=True)
        assert word(writer, E_AWAY, 0) == 0
        assert away <= word(writer, E_BACK, 0) <= boot_ns()
        assert word(writer, E_AWAY, 1) >= away

    def test_without_a_grace_no_return_is_noted(self, writer: FeedWriter) -> None:
        writer.mark_connection([KEY], is_connected=False)
        writer.mark_connection([KEY], is_connected=True)
        assert (word(writer, E_AWAY, 0), word(writer, E_BACK, 0)) == (0, 0)

    def test_the_state_is_that_of_all_streams_until_they_are_marked(
        self, writer: FeedWriter
    ) -> None:
        writer.set_state("reconnecting")
        assert word(writer, E_AWAY, 0) > 0
        assert word(writer, E_AWAY, 1) > 0
        writer.mark_connection([KEY], is_connected=True)
        writer.set_state("connected")
        writer.set_state("error")
        assert word(writer, E_AWAY, 0) == 0
        assert word(writer, E_AWAY, 1) > 0

    def test_a_stream_that_is_not_carried_is_passed_over(
        self, writer: FeedWriter
    ) -> None:
        writer.mark_connection([("C", "1h"), KEY], is_connected=False)
        assert word(writer, E_AWAY, 0) > 0

    def test_a_stream_that_was_never_away_is_not_back(self, writer: FeedWriter) -> None:
        writer.mark_connection([KEY], is_connected=True)
        assert word(writer, E_BACK, 0) == 0

    def test_a_feed_that_starts_unconnected_has_no_stream_connected(
        self, feed_name: str
    ) -> None:
        with create(feed_name, state="disconnected", streams=[KEY]) as writer:
            assert word(writer, E_AWAY, 0) > 0
            writer.set_state("connected")
            writer.mark_connection([KEY], is_connected=True)
            writer.add_stream(*OTHER)  # on the connection that stands
            writer.add_stream(*KEY)
            assert (word(writer, E_AWAY, 0), word(writer, E_AWAY, 1)) == (0, 0)

    def test_the_time_of_a_change_of_state(self, writer: FeedWriter) -> None:
        writer._words.ints[H_STATE_SINCE] = since = 1_700_000_000_000
        writer.set_state("connected")
        assert word(writer, H_STATE_SINCE) == since
        writer.set_state("error")
        assert since <= word(writer, H_STATE_SINCE) <= time.time() * 1000


class TestTimes:
    def test_the_clock_offset(self, writer: FeedWriter) -> None:
        assert word(writer, H_CLOCK_KNOWN) == 0
        writer.set_clock_offset(-1500.25)
        assert word(writer, H_CLOCK_KNOWN) == 1
        assert word(writer, H_CLOCK_OFFSET) == -1_500_250_000
        writer.set_clock_offset(None)
        assert word(writer, H_CLOCK_KNOWN) == 0

    def test_the_limit_of_silence(self, writer: FeedWriter) -> None:
        writer.set_silence(KEY, 2.5)
        assert word(writer, E_SILENCE, 0) == 2_500_000_000
        assert word(writer, E_SILENCE, 1) == 0
        writer.set_silence(KEY, None)
        assert word(writer, E_SILENCE, 0) == 0

    def test_the_next_attempt_and_the_grace(self, writer: FeedWriter) -> None:
        writer.set_next_attempt(9003.5)
        assert word(writer, H_NEXT_ATTEMPT) == 9003.5 * SECOND
        writer.set_next_attempt(0)
        assert word(writer, H_NEXT_ATTEMPT) == 0
        writer.set_repair_grace(5)
        assert word(writer, H_REPAIR_GRACE) == 5 * SECOND


def test_counters_of_a_stream(writer: FeedWriter) -> None:
    for number, name in enumerate(STREAM_COUNTERS):
        writer.count_stream(KEY, name)
        writer.count_stream(KEY, name, 4)
        assert word(writer, E_COUNTERS + number, 0) == 5
        assert word(writer, E_COUNTERS + number, 1) == 0
    with pytest.raises(BadArgumentError, match="counter is 'late'; it must be"):
        writer.count_stream(KEY, "late")


def test_a_new_writer_forgets_what_the_last_one_said(feed_name: str) -> None:
    with create(feed_name, history=5, streams=[KEY]) as writer:
        writer.mark_connection([KEY], is_connected=False)
        writer.mark_connection([KEY], is_connected=True)
        writer.explain(KEY, "dropped", "all 3 messages")
        writer.set_silence(KEY, 7)
        writer.set_clock_offset(3)
        writer.set_next_attempt(9)
        writer.set_repair_grace(5)
        writer.count_stream(KEY, "dropped", 3)
    with create(feed_name, history=5) as writer:
        for number in H_CLOCK_KNOWN, H_NEXT_ATTEMPT, H_REPAIR_GRACE:
            assert word(writer, number) == 0
        for number in E_REASON, E_SILENCE, E_BACK, E_AWAY:
            assert word(writer, number, 0) == 0
        assert word(writer, E_COUNTERS + 1, 0) == 3  # counters go on


def test_a_stream_that_is_subscribed_again_has_no_reason(writer: FeedWriter) -> None:
    writer.explain(KEY, "refused", "no such symbol")
    writer.add_stream(*KEY)  # carried already
    assert REASONS[word(writer, E_REASON, 0)] == "refused"
    writer.unsubscribe(*KEY)
    assert REASONS[word(writer, E_REASON, 0)] == "refused"
    writer.add_stream(*KEY)
    assert word(writer, E_REASON, 0) == 0
