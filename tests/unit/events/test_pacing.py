"""The pace of events: what is told at once, what waits, and what becomes one."""

import math

from shmfeed.events.event import Event, encode_event
from shmfeed.events.pacing import BURST, EVERY_SECONDS, GATHER_SECONDS, Pace


def event(name: str, *symbols: str) -> Event:
    streams = tuple((symbol, "1m") for symbol in symbols)
    return Event(name, f"{name} {symbols}", streams, 1_700_000_000_123_000_000)  # type: ignore[arg-type]


def told(events: list[Event]) -> list[tuple[str, str, int]]:
    return [
        (one.event, "".join(key[0] for key in one.streams), one.times) for one in events
    ]


def test_events_of_one_second_are_one() -> None:
    pace = Pace()
    pace.add(event("stale", "A"), 0.0)
    pace.add(event("error"), 0.1)
    pace.add(event("stale", "B", "A"), 0.5)
    assert pace.take(GATHER_SECONDS - 0.01) == []
    taken = pace.take(GATHER_SECONDS + 0.2)
    assert told(taken) == [("stale", "AB", 2), ("error", "", 1)]
    assert taken[0].message == "stale ('B', 'A')"
    assert pace.take(math.inf) == []


def test_a_flood_is_one_a_minute_behind_a_burst() -> None:
    pace, count, times = Pace(), 0, 0
    seconds = 600
    for now in range(seconds):
        pace.add(event("gap", "A"), float(now))
        for one in pace.take(float(now)):
            count += 1
            times += one.times
    assert BURST < count <= BURST + seconds / EVERY_SECONDS
    assert times + sum(one.times for one in pace.take(math.inf)) == seconds


def test_another_kind_does_not_wait_behind_a_flood() -> None:
    pace = Pace()
    for now in range(60):
        pace.add(event("gap"), float(now))
        pace.take(float(now))
    pace.add(event("error"), 60.0)
    assert ("error", "", 1) in told(pace.take(60.0 + GATHER_SECONDS))


def test_a_burst_comes_back() -> None:
    pace = Pace()
    for start in (0.0, 10_000.0):
        for number in range(BURST):
            now = start + 2 * number
            pace.add(event("gap"), now)
            assert len(pace.take(now + GATHER_SECONDS)) == 1


def test_the_json_of_an_event() -> None:
    text = encode_event("spot", event("gap", "A").join(event("gap", "B")))
    assert text == (
        b'{"feed": "spot", "event": "gap", "time": "2023-11-14T22:13:20.123Z",'
        b' "message": "gap (\'B\',)", "streams": ["A 1m", "B 1m"], "times": 2}'
    )
    assert b"streams" not in encode_event("spot", event("error"))
