"""Mute streams are asked for again, then moved; the test owns the clock."""

from shmfeed.feeder.mute import MOST_SECONDS, NOTHING, MuteStreams, limit_of

A, B = ("A", "1m"), ("B", "1m")
QUICK = ("Q", "1s")


def play(silence_of, seconds, *, step=1.0, streams=(A, B)):
    """Return (time, what, streams) of each action; `silence_of(key, now)`."""
    mute, actions, now = MuteStreams(), [], 0.0
    while now < seconds:
        if mute.is_due(now):
            done = mute.check({key: silence_of(key, now) for key in streams}, now)
            if done.ask:
                actions.append((now, "ask", done.ask))
            if done.move:
                actions.append((now, "move", done.move))
        now += step
    return actions


def never(key, now):
    """Return the silence where A never speaks, and the others do."""
    return now if key == A else 1.0


def test_limits_are_three_timeframes_and_ten_seconds_at_least():
    assert limit_of(A) == 180.0
    assert limit_of(QUICK) == 10.0


def test_a_mute_stream_is_asked_for_then_moved_then_ever_more_rarely():
    actions = play(never, 4 * 86_400.0, step=7.0)
    assert [what for _, what, _ in actions[:4]] == ["ask", "move", "ask", "move"]
    assert all(streams == (A,) for _, _, streams in actions)
    times = [at for at, _, _ in actions]
    assert 180.0 < times[0] < 190.0
    assert 180.0 <= times[1] - times[0] < 190.0
    distances = [b - a for a, b in zip(times[1::2], times[2::2], strict=False)]
    assert distances == sorted(distances)
    assert distances[0] >= 2 * 180.0
    assert distances[-1] <= MOST_SECONDS + 14.0
    assert len(actions) < 60  # in four days


def test_streams_that_are_silent_together_are_left_to_the_connection():
    assert play(lambda key, now: now, 86_400.0, step=60.0) == []


def test_a_stream_that_speaks_is_left_alone():
    assert play(lambda key, now: 1.0, 3600.0) == []


def test_a_stream_with_seconds_is_asked_for_after_ten():
    actions = play(
        lambda key, now: now if key == QUICK else 1.0, 15.0, streams=(QUICK, A)
    )
    assert [(what, streams) for _, what, streams in actions] == [("ask", (QUICK,))]
    assert 10.0 < actions[0][0] <= 12.0


def test_a_symbol_that_hardly_trades_costs_few_connections():
    # It speaks once in ten minutes: mute by the rule, and healthy.
    def silence(key, now):
        return now % 600.0 if key == A else 1.0

    actions = play(silence, 3 * 86_400.0, step=5.0)
    assert sum(what == "move" for _, what, _ in actions) <= 12


def test_a_stream_that_has_spoken_steadily_is_as_new():
    def silence(key, now):
        if key != A:
            return 1.0
        if now < 1000.0:
            return now
        return 1.0 if now < 20_000.0 else now - 20_000.0

    actions = [(what, at) for at, what, _ in play(silence, 21_000.0, step=5.0)]
    late = [(what, at) for what, at in actions if at > 1000.0]
    assert [what for what, _ in late[:2]] == ["ask", "move"]
    assert late[0][1] < 20_000.0 + 190.0


def test_many_mute_streams_move_together():
    streams = [(f"S{number}", "1m") for number in range(100)]
    actions = play(
        lambda key, now: 1.0 if key == B else now, 500.0, streams=(*streams, B)
    )
    assert [(what, len(moved)) for _, what, moved in actions] == [
        ("ask", 100),
        ("move", 100),
    ]


def test_a_stream_that_no_connection_carries_is_forgotten():
    mute = MuteStreams()
    assert mute.check({A: 200.0, B: 1.0}, 200.0).ask == (A,)
    assert mute.check({B: 1.0}, 201.0) is NOTHING
    assert mute.check({A: 200.0, B: 1.0}, 202.0).ask == (A,)
