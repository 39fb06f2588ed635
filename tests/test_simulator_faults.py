"""What goes wrong on request: as often as said, and the same for the same seed."""

import json

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from shmfeed.simulator import STEPS, Venue
from shmfeed.simulator.faults import KINDS, Faults, parse_faults
from shmfeed.simulator.frames import house_frames, payload_of
from shmfeed.simulator.schedule import all_rows, open_times_before

STREAM = ("A", "1m")
ROWS = all_rows(7, STREAM, open_times_before(6_000_000, "1m", 100))
FRAMES = house_frames(STREAM, ROWS, flag=True)


def spoilt(text: str, seed: int = 1) -> list[bytes]:
    return Faults(parse_faults(text), seed).spoil(FRAMES, ROWS)


def test_without_faults_nothing_changes():
    assert spoilt("") == FRAMES


@pytest.mark.parametrize("name", sorted(KINDS))
def test_the_seed_decides(name):
    assert spoilt(f"{name}:0.5") == spoilt(f"{name}:0.5")
    if name != "cut":
        assert spoilt(f"{name}:0.5") != spoilt(f"{name}:0.5", seed=2)


def test_lost_and_duplicate():
    assert spoilt("lost:1") == []
    assert spoilt("duplicate:1") == [frame for frame in FRAMES for _ in "ab"]
    assert 0.4 < len(spoilt("lost:0.5")) / len(FRAMES) < 0.6


def test_late_frames_are_older_closed_bars():
    sent = spoilt("late:1")
    times = [json.loads(payload_of(frame))["open_time"] for frame in sent]
    newest = 0
    late = 0
    for frame, time in zip(sent, times, strict=True):
        late += time < newest
        if time < newest:
            assert json.loads(payload_of(frame))["closed"] is True
        newest = max(newest, time)
    assert late == len(FRAMES) - STEPS  # the first bar has no older one


def test_malformed_frames_are_no_bars():
    sent = spoilt("malformed:1")
    assert sent[1::2] == FRAMES
    for frame in sent[::2]:
        assert not is_sound(payload_of(frame))
    assert all(is_sound(payload_of(frame)) for frame in FRAMES)


def is_sound(payload: bytes) -> bool:
    try:
        message = json.loads(payload.decode())
        values = [float(message[name]) for name in ("high", "low", "volume")]
    except ValueError:
        return False
    return values[0] >= values[1] and values[2] >= 0


def test_a_cut_ends_the_connection_without_a_word():
    request = '{"type":"CONNECT","request_id":"1","symbols":["A"],"resolutions":["1m"]}'
    with Venue(speed="max", bars=2000, faults="cut:0.01") as venue:
        with connect(venue.url, compression=None) as connection:
            connection.send(request)
            with pytest.raises(ConnectionClosed) as caught:  # any of them
                for _ in range(2000 * STEPS + 2):
                    connection.recv(timeout=5)
            assert caught.value.rcvd is None
        venue.wait_connections(0)
