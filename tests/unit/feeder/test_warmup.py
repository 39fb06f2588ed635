"""The warm-up of streams: when they are asked for, what is said; the test's clock."""

from shmfeed.feeder.warmup import CONNECT_SECONDS, Warmups

A, B = ("A", "1m"), ("B", "1m")


def test_a_stream_is_asked_for_when_it_is_connected():
    warmups = Warmups(grace=5.0)
    warmups.add(A, 1000, 10.0)
    assert warmups.due(10.1) == []
    warmups.connected(A, 10.2)
    assert warmups.due(10.2) == [A]
    warmups.asked(A, 1000)
    assert warmups.due(99.0) == []


def test_a_stream_without_a_connection_is_asked_for_after_a_while():
    warmups = Warmups(grace=5.0)
    warmups.add(A, 1000, 10.0)
    assert warmups.due(10.0 + CONNECT_SECONDS) == [A]


def test_the_progress_counts_streams_and_bars():
    warmups = Warmups(grace=5.0)
    warmups.add(A, 1000, 0.0)
    warmups.add(B, 1000, 0.0)
    assert str(warmups.progress) == "warm-up 0 of 2 streams, 0 of 2,000 bars"
    warmups.asked(A, 1000)
    warmups.done(A, 340)  # the venue has no more of them
    assert str(warmups.progress) == "warm-up 1 of 2 streams, 340 of 1,340 bars"
    warmups.drop([B])
    assert not warmups
    assert str(warmups.progress) == "warm-up 1 of 1 streams, 340 of 340 bars"
    warmups.add(B, 7, 1.0)
    assert str(warmups.progress) == "warm-up 0 of 1 streams, 0 of 7 bars"


def test_a_failed_warm_up_is_said_for_the_grace_and_tried_again():
    warmups = Warmups(grace=5.0)
    warmups.add(A, 1000, 0.0)
    warmups.connected(A, 0.0)
    assert warmups.is_said(A, 100.0)  # it has not failed
    warmups.asked(A, 1000)
    warmups.failed(A, 100.0, "away")
    assert warmups.due(100.5) == []
    assert warmups.due(101.0) == [A]
    warmups.asked(A, 1000)
    warmups.failed(A, 104.0, "away")
    assert warmups.is_said(A, 104.9)
    assert not warmups.is_said(A, 105.0)
    assert warmups.due(106.0) == [A]
    warmups.done(A, 1000)
    assert A not in warmups


def test_a_source_that_is_away_fails_for_streams_that_it_was_not_asked_about():
    warmups = Warmups(grace=5.0)
    warmups.add(A, 1000, 0.0)
    warmups.add(B, 1000, 0.0)
    warmups.asked(A, 1000)
    warmups.asked(B, 1000)  # it waits behind the other one, for minutes perhaps
    warmups.failed(A, 100.0, "away")
    assert warmups.is_said(B, 104.9)
    assert not warmups.is_said(B, 105.0)
    warmups.asked(A, 1000)
    warmups.done(A, 1000)  # the source answers again
    assert warmups.is_said(B, 106.0)


def test_a_stream_that_alone_is_refused_fails_for_no_other():
    warmups = Warmups(grace=5.0)
    warmups.add(A, 1000, 0.0)
    warmups.add(B, 1000, 0.0)
    warmups.failed(A, 100.0, "refused")
    assert not warmups.is_said(A, 105.0)
    assert warmups.is_said(B, 105.0)
