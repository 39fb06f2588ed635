"""The check of a venue's numbers, beside a model that remembers them all."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shmfeed.feeder.sequence import (
    FRESH,
    LEARN_AFTER,
    LEARN_AT_MOST,
    OLDER,
    REPEATED,
    RESTART_AFTER,
    Break,
    Count,
    SequenceCheck,
)

A, B, C = ("A", "1m"), ("B", "1m"), ("C", "1m")


def play(check, *messages, connection=1):
    """Send (stream, number) pairs. Return the verdicts."""
    return [check.take(connection, *message) for message in messages]


def missed(check):
    return sum(one.missing for one in check.breaks)


def numbered(mode, keys, first=1):
    """Yield the streams with numbers, as a venue counts."""
    counts = {}
    for at, key in enumerate(keys):
        counts[key] = counts.get(key, first - 1) + 1
        yield key, (first + at if mode == "connection" else counts[key])


class TestCount:
    def test_a_break_is_counted_once(self):
        count = Count()
        verdicts = [count.take(number) for number in (5, 6, 9, 7, 7, 6, 10, 8)]
        assert verdicts == [FRESH, FRESH, 2, OLDER, REPEATED, REPEATED, FRESH, OLDER]

    def test_a_number_before_the_first_has_not_been_had(self):
        count = Count()
        assert [count.take(n) for n in (5, 3, 3, 4, 6)] == [
            0,
            OLDER,
            REPEATED,
            OLDER,
            0,
        ]

    def test_a_count_that_begins_again_is_followed(self):
        count = Count()
        for number in range(1000):
            count.take(number)
        verdicts = [count.take(number) for number in range(RESTART_AFTER + 5)]
        assert verdicts[-6:] == [FRESH] * 6
        assert verdicts[0] == REPEATED

    def test_one_absurd_number_does_not_drop_all_others(self):
        count = Count()
        for number in (1, 2, 10**15):
            count.take(number)
        verdicts = [count.take(number) for number in range(3, 3 + 2 * RESTART_AFTER)]
        assert verdicts[:3] == [OLDER] * 3
        assert verdicts[-RESTART_AFTER:] == [FRESH] * RESTART_AFTER

    @given(st.lists(st.integers(0, 40), max_size=60))
    def test_verdicts_are_a_models(self, numbers):
        count, had, highest = Count(), set(), None
        for number in numbers:
            verdict = count.take(number)
            if highest is None or number > highest:
                expected = 0 if highest is None else number - highest - 1
                assert verdict == expected
                highest = number
            else:
                assert verdict == (REPEATED if number in had else OLDER)
            had.add(number)


class TestLearning:
    @pytest.mark.parametrize("mode", ["connection", "stream"])
    def test_it_is_known_after_three_of_one_stream(self, mode):
        check = SequenceCheck()
        play(check, *numbered(mode, [A, B, A, B, A]))
        assert check.mode == mode
        assert check.breaks == []

    @pytest.mark.parametrize("mode", ["connection", "stream"])
    @pytest.mark.parametrize("seed", range(20))
    def test_any_order_teaches_it(self, mode, seed):
        rng = random.Random(seed)
        keys = rng.choices([A, B, C], k=150)
        check = SequenceCheck()
        play(check, *numbered(mode, keys))
        assert check.mode == mode
        assert check.breaks == []

    @pytest.mark.parametrize("mode", ["connection", "stream"])
    @pytest.mark.parametrize("seed", range(20))
    def test_losses_meanwhile_are_counted_afterwards(self, mode, seed):
        rng = random.Random(seed)
        messages = list(numbered(mode, rng.choices([A, B, C], k=200)))
        lost = set(rng.sample(range(5, 190), 12))
        check = SequenceCheck()
        play(check, *(one for at, one in enumerate(messages) if at not in lost))
        assert check.mode == mode
        assert missed(check) == len(lost)

    def test_one_stream_alone_is_checked_from_the_third_message_on(self):
        check = SequenceCheck()
        assert play(check, (A, 1), (A, 2), (A, 3), (A, 5)) == [FRESH] * 4
        assert check.breaks == [Break(A, 1)]
        assert play(check, (A, 5), (A, 4)) == [REPEATED, OLDER]

    @pytest.mark.parametrize("mode", ["connection", "stream"])
    def test_a_second_stream_that_comes_late_decides(self, mode):
        check = SequenceCheck()
        play(check, *numbered(mode, [A] * 200 + [B, A, B, A, B, A]))
        assert check.mode == mode
        assert check.breaks == []

    @pytest.mark.parametrize("alone", [True, False])
    def test_numbers_that_count_nothing_are_given_up_once(self, alone):
        check = SequenceCheck()
        keys = [A] * (LEARN_AT_MOST + 2) if alone else [A, B] * (LEARN_AT_MOST + 2)
        verdicts = play(check, *((key, at * 1000) for at, key in enumerate(keys)))
        assert check.mode == "off"
        assert set(verdicts) == {FRESH}
        assert check.breaks == []

    @pytest.mark.parametrize("keys", [[A], [A, B], [A, B, C]])
    @pytest.mark.parametrize("seed", range(10))
    def test_numbers_that_fit_by_chance_alone_are_given_up(self, keys, seed):
        rng, check, number, messages = random.Random(seed), SequenceCheck(), 0, []
        for _ in range(LEARN_AT_MOST + 2):
            for key in keys:
                number += rng.randint(1, 9)
                messages.append((key, number))
        assert set(play(check, *messages)) == {FRESH}
        assert check.mode == "off"
        assert check.breaks == [] or len(keys) == 1  # it is checked from the third on

    @pytest.mark.parametrize("keys", [[A], [A, B]])
    @pytest.mark.parametrize("updates", [6, 20, 1000])
    def test_a_number_of_the_bar_drops_no_update(self, keys, updates):
        """Each update of a bar has the same number, the next bar one more."""
        check = SequenceCheck()
        messages = [(key, n // updates) for n in range(300) for key in keys]
        assert set(play(check, *messages)) == {FRESH}
        assert check.mode == "off"

    @pytest.mark.parametrize("keys", [[A], [A, B]])
    @pytest.mark.parametrize("mode", ["connection", "stream"])
    def test_doubled_messages_teach_it_too(self, keys, mode):
        check = SequenceCheck()
        once = list(numbered(mode, keys * 20))
        verdicts = play(check, *(message for one in once for message in (one, one)))
        assert verdicts[-6:] == [FRESH, REPEATED] * 3
        assert check.breaks == []

    def test_an_absurd_number_counts_as_a_bounded_loss(self):
        check = SequenceCheck("connection")
        play(check, (A, 1), (A, 2**63 - 1))
        assert missed(check) == 1 << 32

    def test_nothing_is_checked_before(self):
        check = SequenceCheck()
        assert play(check, (A, 5), (A, 3)) == [FRESH, FRESH]
        assert LEARN_AFTER == 3

    def test_control_the_wrong_way_sees_breaks(self):
        for mode, other in (("connection", "stream"), ("stream", "connection")):
            check = SequenceCheck(other)
            play(check, *numbered(mode, [A, B, A, B, A]))
            assert check.breaks or mode == "stream"


class TestConnections:
    @pytest.mark.parametrize("mode", ["connection", "stream"])
    def test_numbers_begin_again_with_each(self, mode):
        check = SequenceCheck()
        play(check, *numbered(mode, [A, B] * 5))
        assert set(play(check, *numbered(mode, [A, B] * 5), connection=2)) == {FRESH}
        assert check.breaks == []
        assert check.mode == mode

    def test_two_at_a_time_have_their_own(self):
        check = SequenceCheck("connection")
        for number in range(1, 10):
            assert play(check, (A, number), connection=1) == [FRESH]
            assert play(check, (B, number + 500), connection=2) == [FRESH]
        play(check, (A, 12), connection=1)
        assert check.breaks == [Break(None, 2)]
        assert check.may_carry(1, A)
        assert not check.may_carry(1, B)
        assert check.may_carry(1, C)

    def test_off_checks_nothing(self):
        check = SequenceCheck("off")
        assert play(check, (A, 5), (A, 5), (A, 9), (A, 1)) == [FRESH] * 4
        assert check.breaks == []


@settings(deadline=None)
@given(
    st.sampled_from(["connection", "stream"]),
    st.lists(st.sampled_from([A, B, C]), min_size=1, max_size=60),
    st.data(),
)
def test_what_is_lost_is_counted_and_nothing_comes_twice(mode, keys, data):
    """Messages are lost, doubled and swapped with the next one."""
    check = SequenceCheck(mode)
    sent, lost = [], 0
    for message in numbered(mode, keys):
        what = data.draw(st.sampled_from(["send", "send", "lose", "double", "swap"]))
        if what == "swap" and sent:
            sent.insert(-1, message)
        elif what != "lose":
            sent += [message] * (2 if what == "double" else 1)
    taken, had = [], {}
    for key, number in sent:
        count = key if mode == "stream" else None
        before = had.setdefault(count, [])
        verdict = check.take(1, key, number)
        if not before or number > max(before):
            assert verdict == FRESH
            lost += number - max(before) - 1 if before else 0
            taken.append((key, number))
        else:
            assert verdict == (REPEATED if number in before else OLDER)
        before.append(number)
    assert len(taken) == len(set(taken))
    assert missed(check) == lost
