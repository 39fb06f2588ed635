"""A venue records what it sends; the recording is read whole, and sent again."""

import json
import urllib.request
from pathlib import Path

import pytest
from websockets.sync.client import connect

from shmfeed.errors import BadArgumentError
from shmfeed.simulator import Venue
from shmfeed.simulator.frames import text_frame, text_frames
from shmfeed.simulator.recorder import FrameRecorder, text_payloads
from shmfeed.simulator.replay import (
    ConnectionClosed,
    Frame,
    Opened,
    RecordedSession,
    RestAnswer,
    Subscribed,
    read_recording,
)

CONNECT = {
    "type": "CONNECT",
    "request_id": "1",
    "symbols": ["BTCUSDT"],
    "resolutions": ["1m"],
    "csrf_token": "a-secret",
    "market_type": "house-market",
}


def kinds(session):
    return [type(event) for event in session.events()]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "venue.frames"


def test_a_connection_is_recorded_from_its_handshake_to_its_end(path):
    with Venue(speed=None, history=3, record=path) as venue:
        with connect(venue.url) as connection:
            connection.send(json.dumps(CONNECT))
            got = [connection.recv(timeout=5) for _ in range(4)]
            venue.send("two\nlines")
            got.append(connection.recv(timeout=5))
        venue.wait_connections(0)
        url = venue.url
    session = RecordedSession(path)
    events = list(session.events())
    assert (session.url, session.protocol) == (url, "wealthai")
    frames = [event for event in events if isinstance(event, Frame)]
    assert [frame.payload.decode() for frame in frames] == got
    first, *_, last = events
    assert isinstance(first, Opened)
    assert abs(first.date / 1000 - first.time) < 60
    assert isinstance(last, ConnectionClosed)
    (asked,) = (event for event in events if isinstance(event, Subscribed))
    assert asked[2:] == ((("BTCUSDT", "1m"),), "house-market")
    assert [event.time for event in events] == sorted(event.time for event in events)
    assert b"a-secret" not in path.read_bytes()


def test_a_recording_is_served_again(path):
    with (
        Venue(speed=None, history=3, record=path) as venue,
        connect(venue.url) as connection,
    ):
        connection.send(json.dumps(CONNECT))
        got = [connection.recv(timeout=5) for _ in range(4)]
    with (
        Venue(replay=path, speed="max") as venue,
        connect(venue.url, compression=None) as connection,
    ):
        connection.send(json.dumps(CONNECT))
        # The venue's own acknowledgement comes first.
        again = [connection.recv(timeout=5) for _ in range(5)]
    assert again[1:] == got


def test_frames_belong_to_their_connections(path):
    recorder = FrameRecorder(str(path), "ws://x", "wealthai")
    recorder.opened(1, 1000)
    recorder.opened(2, 1000)
    recorder.sent(1, text_frame(b"a"))
    recorder.sent(2, b"".join(text_frames([b"b", b"c"])))
    recorder.sent(1, text_frame(b"\xff"))
    recorder.closed(2)
    recorder.sent(1, text_frame(b"e"))
    recorder.close()
    found = [e[1:] for e in RecordedSession(path).events() if isinstance(e, Frame)]
    assert found == [(1, b"a"), (2, b"b"), (2, b"c"), (1, b"\xff"), (1, b"e")]


def test_rest_is_recorded_with_its_answers(path):
    with Venue(protocol="binance", record=path) as venue:
        target = "/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=2"
        with urllib.request.urlopen(venue.rest_url + target, timeout=5) as answer:
            body = answer.read()
    (event,) = RecordedSession(path).events()
    assert isinstance(event, RestAnswer)
    assert (event.target, event.status, event.body) == (target, 200, body)
    assert "X-MBX-USED-WEIGHT-1M" in event.headers


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_messages_of_each_size_are_found_in_their_frames(size):
    data = text_frame(b"x" * size) + text_frame(b"end")
    assert list(text_payloads(data)) == [b"x" * size, b"end"]
    assert list(text_payloads(data[:-1])) == [b"x" * size]
    assert list(text_payloads(b"\x82\x01x" + data)) == []


def test_a_last_line_that_was_cut_off_is_left_out(path):
    recorder = FrameRecorder(str(path), "ws://x", "wealthai")
    recorder.opened(1, 1000)
    recorder.sent(1, b"".join(text_frames([b"first", b"second"])))
    recorder.close()
    whole = path.read_bytes()
    for cut in range(1, len(b"second") + 5):
        path.write_bytes(whole[:-cut])
        found = [
            e.payload for e in RecordedSession(path).events() if hasattr(e, "payload")
        ]
        assert found == [b"first"]


def test_an_existing_file_is_not_overwritten(path):
    path.write_text("mine")
    with pytest.raises(BadArgumentError, match="a file that does not exist yet"):
        Venue(record=path).start()
    assert path.read_text() == "mine"
    with Venue() as venue, connect(venue.url):  # a venue can still be started
        pass


def test_a_recording_ends_at_its_limit_and_the_venue_goes_on(path, caplog):
    recorder = FrameRecorder(str(path), "ws://x", "wealthai", 120)
    for _ in range(50):
        recorder.sent(1, text_frame(b"0123456789"))
    recorder.closed(1)
    assert len(caplog.messages) == 1
    assert "limit" in caplog.messages[0]
    assert path.stat().st_size <= 120
    assert set(kinds(RecordedSession(path))) == {Frame}


def test_a_full_disk_ends_the_recording(caplog):
    recorder = FrameRecorder.__new__(FrameRecorder)
    with Path("/dev/full").open("wb", buffering=0) as full:
        recorder._file, recorder._path, recorder._left = full, "x", 1000
        recorder._last, recorder._connection = 0.0, 0
        recorder.opened(1, 0)
        recorder.opened(2, 0)
    assert caplog.messages == ["the recording 'x' ends here: No space left on device"]


HEAD = b'ws://x {"protocol":"wealthai","recording":1}\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'ws://x {"recording":2}\n', "format 2"),
        (HEAD + b"# 1.0\n", "line 2"),
        (HEAD + b"# x {}\n", "line 2"),
        (HEAD + b"# 1.0 []\n", "line 2"),
        (HEAD + b'# 1.0 {"open":"x"}\n', "line 2"),
        (HEAD + b'1.0: a\n# 1.0 {"streams":1,"keys":[["A","7m"]]}\n', "line 3"),
        (HEAD + b'# 1.0 {"frame":1,"base64":"a"}\n', "line 2"),
        (HEAD + b'# 1.0 {"rest":"/x","status":200}\n', "line 2"),
    ],
)
def test_a_malformed_note_is_refused_with_its_line(path, content, message):
    path.write_bytes(content)
    with pytest.raises(BadArgumentError, match=message):
        read_recording(path)


def test_a_note_of_a_later_kind_is_passed_over(path):
    path.write_bytes(HEAD + b'# 1.0 {"weather":"fine"}\n1.0: a\n')
    assert read_recording(path).frames == [(0.0, b"a")]
