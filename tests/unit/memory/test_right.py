"""The right to write: its word, the writer epoch, and what each loss says."""

import os

import pytest
from support.ring_on_bytes import blank, right_to

from shmfeed.errors import BadArgumentError, FeedLostError
from shmfeed.layout import COUNT_LIMIT, H_WRITER_EPOCH, TIME_LIMIT
from shmfeed.memory.right import ENDED, Right, refuse_append
from shmfeed.memory.words import Words


@pytest.fixture
def words() -> Words:
    return blank(4)[0]


def said(right: Right) -> str:
    with pytest.raises(FeedLostError) as caught:
        right.check("A 1h")
    return str(caught.value)


def test_taking_a_segment_raises_its_epoch(words: Words) -> None:
    words.ints[H_WRITER_EPOCH] = 7
    right = right_to(words)
    assert right.is_held
    assert words.ints[H_WRITER_EPOCH] == right.word[0] == 8
    right.check("A 1h")


@pytest.mark.parametrize("epoch", [-1, COUNT_LIMIT, (1 << 63) - 1, -(1 << 63)])
def test_a_damaged_epoch_begins_again(words: Words, epoch: int) -> None:
    words.ints[H_WRITER_EPOCH] = epoch
    assert right_to(words).is_held
    assert words.ints[H_WRITER_EPOCH] == 1


def test_it_is_lost_to_the_next_one_that_takes_it(words: Words) -> None:
    first = right_to(words)
    second = right_to(words)
    assert second.is_held
    assert not first.is_held
    assert "its writer epoch is 2, this writer's is 1; restart" in said(first)


def test_before_it_was_taken_and_after_its_end_it_is_not_held(words: Words) -> None:
    assert not Right().is_held
    assert not ENDED.is_held
    right = right_to(words)
    right.end()
    assert not right.is_held
    assert "the writer of A 1h is closed" in said(right)


def test_the_first_reason_stays(words: Words) -> None:
    right = right_to(words)
    right.end("the file was removed")
    right.end()
    right.end("another reason")
    assert "A 1h has stopped: the file was removed" in said(right)


def test_an_ended_right_loads_no_word_of_the_segment() -> None:
    """The segment may be truncated: a load would raise SIGBUS."""
    words = blank(4)[0]
    right = right_to(words)
    right.end("truncated")
    words.release()
    assert not right.is_held
    assert "truncated" in said(right)


def test_a_child_is_named_with_its_parent(words: Words) -> None:
    right = right_to(words)
    right._pid = 1  # as in a child, whose word a fork has wiped
    right.word[0] = 0
    assert f"process {os.getpid()} is a forked child of 1, which" in said(right)


class TestRefusal:
    def refuse(self, words: Words, open_time: int, published: int) -> None:
        right = right_to(words)
        refuse_append(right, "A 1h", open_time, 100, published, 5)

    def test_each_cause_has_its_error(self, words: Words) -> None:
        for open_time in (100, 0):
            with pytest.raises(BadArgumentError, match="not newer"):
                self.refuse(words, open_time, 5)
        for open_time in (-1, TIME_LIMIT):
            with pytest.raises(BadArgumentError, match="out of range"):
                self.refuse(words, open_time, 5)
        with pytest.raises(FeedLostError, match=r"7 rows .* published 5"):
            self.refuse(words, 101, 7)

    def test_a_loss_is_told_before_a_bad_time(self, words: Words) -> None:
        with pytest.raises(FeedLostError, match="is closed"):
            refuse_append(ENDED, "A 1h", -1, 100, 7, 5)

    def test_without_a_cause_it_returns(self, words: Words) -> None:
        self.refuse(words, 101, 5)
