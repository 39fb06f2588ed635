"""Streams are spread over connections by their number and symbols."""

from hypothesis import given
from hypothesis import strategies as st

from shmfeed.wire.spread import spread

KEYS = st.lists(
    st.tuples(
        st.sampled_from([f"S{number}" for number in range(30)]),
        st.sampled_from(["1m", "5m", "1h"]),
    ),
    unique=True,
    max_size=90,
).map(tuple)


def test_two_thousand_streams_need_ten_connections_of_two_hundred():
    streams = tuple((f"S{number}", t) for number in range(1000) for t in ("1m", "1h"))
    groups = spread(streams, 200)
    assert [len(group) for group in groups] == [200] * 10


def test_no_stream_at_all_is_one_connection():
    assert spread((), 10) == [()]


def test_the_streams_of_a_symbol_stay_together():
    streams = tuple(
        (f"S{number}", t) for number in range(10) for t in ("1m", "5m", "1h")
    )
    for group in spread(streams, 7):
        counts = [sum(s == symbol for s, _ in group) for symbol in dict(group)]
        assert counts == [3] * len(counts)


@given(KEYS, st.integers(1, 20))
def test_each_stream_goes_over_one_connection_within_the_limit(streams, most):
    groups = spread(streams, most)
    assert sorted(key for group in groups for key in group) == sorted(streams)
    assert all(len(group) <= most for group in groups)


@given(KEYS, KEYS, st.integers(3, 20))
def test_a_change_moves_no_stream_that_stays(before, after, most):
    present = spread(before, most)
    groups = spread(after, most, present)
    assert sorted(key for group in groups for key in group) == sorted(after)
    for old, new in zip(present, groups, strict=False):
        assert set(old) & set(after) <= set(new)
    assert all(len(group) <= most for group in groups)
