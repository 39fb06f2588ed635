"""Replay sends a recording frame by frame, in order, at its pace or at full speed."""

import json
import time
from pathlib import Path

import pytest
from support.recordings import recording
from websockets.sync.client import connect

from shmfeed.errors import BadArgumentError
from shmfeed.simulator import Venue
from shmfeed.simulator.replay import read_recording

SMALL = """wss://example.org/stream?streams=a@kline_1m <-> 100.0
100.5: {"stream":"a","data":{"é": ": "}}
101.0: second

100.9: earlier than the one before
"""
PAYLOADS = ['{"stream":"a","data":{"é": ": "}}', "second"]
PAYLOADS += ["earlier than the one before"]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.frames"
    path.write_text(SMALL, encoding="utf-8")
    return path


def test_a_recording_is_read_unchanged(small):
    url, frames = read_recording(small)
    assert url == "wss://example.org/stream?streams=a@kline_1m"
    assert [payload.decode() for _, payload in frames] == PAYLOADS
    assert [seconds for seconds, _ in frames] == pytest.approx([0.0, 0.5, 0.4])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "URL"),
        (b"1.0: x\n", "URL"),
        (b"ws://x\nno time\n", "line 2"),
        (b"ws://x\n1.0: a\nx: b\n", "line 3"),
        (b"ws://x\nnan: a\n", "line 2"),
        (b"ws://x\n1.0: \xff\n", "line 2"),
    ],
)
def test_a_malformed_recording_is_refused_with_its_line(tmp_path, content, message):
    path = tmp_path / "bad.frames"
    path.write_bytes(content)
    with pytest.raises(BadArgumentError, match=message):
        read_recording(path)
    with pytest.raises(BadArgumentError, match=message):
        Venue(replay=path).start()


@pytest.mark.parametrize("name", ["binance-spot.frames", "binance-usdm.frames"])
def test_recorded_traffic_is_sent_frame_by_frame(name):
    file = recording(name)
    lines = file.read_text(encoding="utf-8").splitlines()[1:]
    wanted = [line.partition(": ")[2] for line in lines if line]
    options = {"protocol": "binance", "speed": "max", "replay": file}
    with Venue(**options) as venue:
        for _ in range(2):  # each connection gets it from the beginning
            path = venue.url + "/stream?streams=any@kline_1m"
            with connect(path, compression=None) as connection:
                got = [connection.recv(timeout=5) for _ in wanted]
                assert got == wanted
                assert connection.ping().wait(5)
                with pytest.raises(TimeoutError):
                    connection.recv(timeout=0)


def test_a_subscription_is_acknowledged_and_filters_nothing(small):
    request = '{"type":"CONNECT","request_id":"1","symbols":["A"],"resolutions":["1m"]}'
    with Venue(speed="max", replay=small) as venue, connect(venue.url) as connection:
        connection.send(request)
        assert json.loads(connection.recv(timeout=5))["type"] == "CONNECTED"
        assert [connection.recv(timeout=5) for _ in PAYLOADS] == PAYLOADS
        connection.send(request)  # a second one does not restart the recording
        assert json.loads(connection.recv(timeout=5))["type"] == "CONNECTED"
        with pytest.raises(TimeoutError):
            connection.recv(timeout=0)


@pytest.mark.parametrize(("speed", "least"), [(1, 0.5), (5, 0.1)])
def test_pauses_are_the_recordings_divided_by_the_speed(small, speed, least):
    options = {"protocol": "binance", "speed": speed, "replay": small}
    with Venue(**options) as venue, connect(venue.url + "/ws/a@trade") as connection:
        assert connection.recv(timeout=5) == PAYLOADS[0]
        began = time.monotonic()
        assert [connection.recv(timeout=5) for _ in range(2)] == PAYLOADS[1:]
        assert least * 0.8 < time.monotonic() - began < least + 2.0
