"""What goes wrong on request: as often and when it was said, the same for a seed."""

import itertools
import json
import math
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from shmfeed.cli.main import main
from shmfeed.errors import BadArgumentError
from shmfeed.simulator import STEPS, Venue
from shmfeed.simulator.faults import (
    KINDS,
    ConnectionFaults,
    Fault,
    FaultSchedule,
    fault_lines,
    parse_faults,
)
from shmfeed.simulator.faults.injection import EFFECTS
from shmfeed.simulator.faults.spec import CLOCK, CONNECTIONS, STATE
from shmfeed.simulator.frames import binance_frames, house_frames, payload_of
from shmfeed.simulator.schedule import all_rows, open_times_before

DOCS = Path(__file__).parents[3] / "docs/faults.md"
STREAM = ("A", "1m")
ROWS = all_rows(7, STREAM, open_times_before(6_000_000, "1m", 100))
OF_FRAMES = [n for n, k in KINDS.items() if k.extent in {"frames", "bars"}]
OF_CLOSES = [n for n, k in KINDS.items() if k.extent == "closing frames"]
ALWAYS = math.inf


def house(stream, rows):
    return house_frames(stream, rows, flag=True)


FRAMES = house(STREAM, ROWS)


def faults(text, seed=1, number=1, encode=house):
    return ConnectionFaults(parse_faults(text), seed, number, encode)


def spoilt(text, seed=1, number=1, encode=house):
    return faults(text, seed, number, encode).frames(STREAM, ROWS)


def messages(frames):
    return [json.loads(payload_of(frame)) for frame in frames]


def form(name, rate):
    """The fault with its argument, if it needs one."""
    argument = KINDS[name].argument
    return f"{name}:{argument.example}:{rate}" if argument else f"{name}:{rate}"


# The grammar


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("lost:0.25", Fault("lost", 0.0, 0.25, 0.0, ALWAYS, False)),
        ("lost", Fault("lost", 0.0, 1.0, 0.0, ALWAYS, False)),
        ("lost:1@2", Fault("lost", 0.0, 1.0, 2.0, ALWAYS, False)),
        ("lost@2", Fault("lost", 0.0, 1.0, 2.0, ALWAYS, True)),
        ("lost@2+3", Fault("lost", 0.0, 1.0, 2.0, 5.0, False)),
        ("lost:.5@250ms+1m", Fault("lost", 0.0, 0.5, 0.25, 60.25, False)),
        (" cut@2.5s ", Fault("cut", 0.0, 1.0, 2.5, ALWAYS, True)),
        ("mute@2", Fault("mute", 0.0, 1.0, 2.0, ALWAYS, False)),
        ("delay:3s:0.1", Fault("delay", 3.0, 0.1, 0.0, ALWAYS, False)),
        ("ack-late:250ms", Fault("ack-late", 0.25, 1.0, 0.0, ALWAYS, False)),
        ("skew:+90s", Fault("skew", 90.0, 1.0, 0.0, ALWAYS, False)),
        ("skew:-1m@5", Fault("skew", -60.0, 1.0, 5.0, ALWAYS, False)),
        ("trickle:1KiB/s", Fault("trickle", 1024.0, 1.0, 0.0, ALWAYS, False)),
        ("oversized@1", Fault("oversized", 2.0**40, 1.0, 1.0, ALWAYS, True)),
        ("oversized:2MiB:0.5", Fault("oversized", 2.0**21, 0.5, 0.0, ALWAYS, False)),
        ("oversized:0.5", Fault("oversized", 2.0**40, 0.5, 0.0, ALWAYS, False)),
        ("refuse", Fault("refuse", 0.0, 1.0, 0.0, ALWAYS, False)),
        ("refuse:503:0.5@3", Fault("refuse", 503.0, 0.5, 3.0, ALWAYS, False)),
        ("refuse:0.5", Fault("refuse", 0.0, 0.5, 0.0, ALWAYS, False)),
    ],
)
def test_what_is_accepted(text, fault):
    assert parse_faults(text) == (fault,)
    assert parse_faults(f",{text},,{text},") == (fault, fault)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("wrong:0.1", "'wrong'; there are: lost lost-close gap"),
        ("LOST", "there is no 'LOST'"),
        ("@2", "there is no ''"),
        (":0.5", "there is no ''"),
        ("lost:2", "'2'; lost[:RATE][@SECONDS[+SECONDS]]"),
        ("lost:-1", "'-1'"),
        ("lost:nan", "'nan'"),
        ("lost:1e-3", "'1e-3'"),
        ("lost:", "''"),
        ("lost:0.1:0.2", "'0.2'"),
        ("lost:3s", "'3s'; lost[:RATE]"),
        ("lost@", "'@'"),
        ("lost@-1", "'@-1'"),
        ("lost@2+", "'@2+'"),
        ("lost@2@3", "'@2@3'"),
        ("lost@2h", "'@2h'"),
        ("mute:0.5", "'0.5'; mute[@SECONDS[+SECONDS]]"),
        ("ack-late", "its DELAY is missing; ack-late:DELAY[:RATE]"),
        ("ack-late:0.5:3s", "'3s'"),
        ("delay:-3s", "'-3s'"),
        ("skew", "its SHIFT is missing"),
        ("skew:90h", "'90h'; skew:SHIFT[@SECONDS[+SECONDS]], SHIFT such as +90s"),
        ("trickle", "its PACE is missing"),
        ("trickle:20", "'20'; trickle:PACE[@SECONDS[+SECONDS]], PACE such as 20B/s"),
        ("trickle:0B/s", "'0B/s'"),
        ("oversized:1TB", "'1TB'; oversized[:SIZE][:RATE]"),
        ("refuse:200", "'200'; refuse[:STATUS][:RATE]"),
        ("refuse:500.5", "'500.5'; refuse[:STATUS][:RATE]"),
        ("lost:0.1,cut:x", "fault 'cut:x' is not accepted: 'x'"),
    ],
)
def test_what_is_refused_with_the_value_and_what_is_accepted(text, words):
    with pytest.raises(BadArgumentError) as caught:
        parse_faults(text)
    assert words in str(caught.value)


def test_a_venue_cannot_have_every_fault(tmp_path):
    with pytest.raises(BadArgumentError, match="'skew-events' needs protocol"):
        Venue(faults="skew-events:+1s")
    recording = tmp_path / "recording"
    recording.write_text("ws://x\n0: {}\n")
    with pytest.raises(BadArgumentError, match="faults gap, nan need bars"):
        Venue(replay=recording, faults="cut@1,gap:0.1,nan")
    with Venue(speed=None, faults="duplicate") as venue:
        with pytest.raises(BadArgumentError, match="no 'gone'"):
            venue.set_faults("gone")
        with pytest.raises(BadArgumentError, match="skew-events"):
            venue.set_faults("skew-events:+1s")


def test_each_fault_has_its_line_and_its_place_in_the_docs(capsys):
    lines = fault_lines().splitlines()
    assert [line.split()[0].split(":")[0] for line in lines] == list(KINDS)
    assert max(map(len, lines)) <= 88
    with pytest.raises(SystemExit):
        main(["simulate", "--help"])
    assert fault_lines() in capsys.readouterr().out
    told = DOCS.read_text()
    assert [name for name in KINDS if f"`{name}" not in told] == []


# What is deterministic


def test_without_faults_nothing_changes():
    assert spoilt("") == FRAMES


@pytest.mark.parametrize("name", OF_FRAMES + OF_CLOSES)
def test_the_seed_and_the_number_of_the_connection_decide(name):
    text = form(name, 0.01 if name.startswith("cut") else 0.5)
    first = spoilt(text)
    assert spoilt(text) == first
    assert first != FRAMES
    assert spoilt(text, seed=2) != first
    assert spoilt(text, number=2) != first


@pytest.mark.parametrize("other", ["lost:0", "cut:0", "garbage:0.5", "nan:0.5"])
def test_another_fault_does_not_change_which_frames_are_met(other):
    def doubled(text):
        sent = spoilt(text)
        return [frame for frame in FRAMES if sent.count(frame) == 2]

    assert 100 < len(doubled("duplicate:0.3")) < 400
    assert doubled(f"{other},duplicate:0.3") == doubled("duplicate:0.3")


def test_faults_have_their_time():
    now = [0.0]
    odds = FaultSchedule(
        parse_faults("lost@2,duplicate@2+3,mute@1,gap:0@0"), "1", clock=lambda: now[0]
    )
    met = {name: [] for name in ("lost", "duplicate", "mute", "gap")}
    for time in (0.0, 0.9, 1.0, 2.0, 2.0, 4.9, 5.0, 9.0):
        now[0] = time
        for name, times in met.items():
            if odds.meet(name):
                times.append(time)
    assert met == {
        "lost": [2.0],
        "duplicate": [2.0, 2.0, 4.9],
        "mute": [1.0, 2.0, 2.0, 4.9, 5.0, 9.0],
        "gap": [],
    }
    now[0] = 1.5
    assert odds.moments(["mute", "duplicate"]) == [0.5, 3.5]


# What each does to frames


def test_lost_and_duplicate():
    assert spoilt("lost") == []
    assert spoilt("duplicate") == [frame for frame in FRAMES for _ in "ab"]
    assert 0.4 < len(spoilt("lost:0.5")) / len(FRAMES) < 0.6


def test_lost_closes_and_gaps():
    closing = FRAMES[STEPS - 1 :: STEPS]
    assert spoilt("lost-close") == [frame for frame in FRAMES if frame not in closing]
    kept = messages(spoilt("gap:0.5"))
    counts = {m["open_time"]: 0 for m in messages(FRAMES)}
    for message in kept:
        counts[message["open_time"]] += 1
    assert set(counts.values()) == {0, STEPS}  # a bar is there as a whole, or not
    assert spoilt("gap@0") == FRAMES[STEPS:]  # once: one bar


def test_late_frames_are_older_closed_bars():
    sent = messages(spoilt("late"))
    newest = late = 0
    for message in sent:
        if message["open_time"] < newest:
            late += 1
            assert message["closed"] is True
        newest = max(newest, message["open_time"])
    assert late == len(FRAMES) - STEPS  # the first bar has no older one


def test_reordered_closes_come_behind_the_next_frame():
    sent = spoilt("reorder")
    expected = FRAMES[: STEPS - 1]
    for start in range(STEPS - 1, len(FRAMES) - 1, STEPS):
        following = FRAMES[start + 1 : start + STEPS]
        expected += [following[0], FRAMES[start], *following[1:]]
    assert sent == expected  # the last close waits for a frame that never comes
    closes = house(STREAM, ROWS[STEPS - 1 :: STEPS])
    in_a_row = faults("reorder").frames(STREAM, ROWS[STEPS - 1 :: STEPS])
    assert in_a_row == closes[:-1]


def test_delayed_closes_are_left_to_the_sender():
    one = faults("delay:250ms")
    sent = one.frames(STREAM, ROWS)
    closing = FRAMES[STEPS - 1 :: STEPS]
    assert sent == [frame for frame in FRAMES if frame not in closing]
    assert one.delayed == [(0.25, frame) for frame in closing]


def test_a_revision_is_the_same_bar_with_another_volume():
    sent = messages(spoilt("revise"))
    assert len(sent) == len(FRAMES) + 100
    for before, after in itertools.pairwise(sent):
        if before["open_time"] == after["open_time"] and before["closed"]:
            assert float(after["volume"]) > float(before["volume"])
            same = ("open", "high", "low", "close", "open_time", "closed")
            assert [after[n] for n in same] == [before[n] for n in same]


@pytest.mark.parametrize("encode", [house, "raw"])
@pytest.mark.parametrize("name", ["malformed", "off-grid", "nan", "infinite"])
def test_a_spoilt_copy_comes_before_the_frame(name, encode):
    if encode == "raw":

        def encode(stream, rows):
            return binance_frames(stream, rows, wrapped=False)

    sent = spoilt(name, encode=encode)
    assert sent[1::2] == encode(STREAM, ROWS)
    assert not any(is_sound(payload_of(frame)) for frame in sent[::2])
    assert all(is_sound(payload_of(frame)) for frame in sent[1::2])


def is_sound(payload):
    """Whether this is a bar: JSON, finite, low <= high, on the grid of minutes."""
    try:
        message = json.loads(payload.decode())
        message = message.get("k", message)
        names = "tohlcv" if "t" in message else ("open_time", *BAR)
        values = [float(message[name]) for name in names]
    except ValueError:
        return False
    return (
        all(map(math.isfinite, values))
        and values[0] % 60_000 == 0
        and values[2] >= values[3]
        and values[5] >= 0
    )


BAR = ("open", "high", "low", "close", "volume")


def test_fragments_are_the_message_in_pieces_with_a_ping_between():
    whole = {payload_of(frame) for frame in FRAMES}
    counts = set()
    for frame in spoilt("fragments"):
        pieces = list(cut_up(frame))
        counts.add(len(pieces))
        assert pieces[1][:2] == (9, True)
        del pieces[1]
        assert [opcode for opcode, _, _ in pieces] == [1] + [0] * (len(pieces) - 1)
        assert [final for _, final, _ in pieces] == [False] * (len(pieces) - 1) + [True]
        assert b"".join(payload for _, _, payload in pieces) in whole
    assert counts == {3, 4, 5}


def cut_up(data):
    """Opcode, final bit and payload of each WebSocket frame."""
    while data:
        size, start = data[1], 2
        if size == 126:
            size, start = int.from_bytes(data[2:4], "big"), 4
        yield data[0] & 15, bool(data[0] & 128), data[start : start + size]
        data = data[start + size :]


def test_bytes_that_are_no_frame_and_frames_that_are_not_whole():
    for noisy in spoilt("noise")[::2]:
        assert noisy[0] & 0x70
    for begun in spoilt("oversized")[::2]:
        assert begun == b"\x81\x7f" + (1 << 40).to_bytes(8, "big")
    assert spoilt("oversized:2KiB")[0][2:] == (2048).to_bytes(8, "big")
    for short, frame in zip(spoilt("truncated"), FRAMES, strict=True):
        declared, payload = int.from_bytes(short[2:10], "big"), short[10:]
        assert payload == payload_of(frame)
        assert 1 <= declared - len(payload) <= 64


@pytest.mark.parametrize("name", ["cut", "cut-inside"])
def test_nothing_comes_after_a_cut(name):
    one = faults(f"{name}:0.01")
    sent = one.frames(STREAM, ROWS)
    assert one.ended
    whole = len(sent) - (name == "cut-inside")
    assert 0 < whole < len(FRAMES)
    assert sent[:whole] == FRAMES[:whole]
    if name == "cut-inside":
        assert FRAMES[whole].startswith(sent[-1])
        assert 0 < len(sent[-1]) < len(FRAMES[whole])
    assert one.frames(STREAM, ROWS) == []


def test_every_fault_of_frames_is_done_by_someone():
    remembered = {"gap", "late", "off-grid", "nan", "infinite"}
    assert set(EFFECTS) | remembered == set(OF_FRAMES)
    lasting = {n for n, k in KINDS.items() if k.extent in {STATE, CLOCK, CONNECTIONS}}
    assert lasting == {
        "half-open",
        "mute",
        "mute-pongs",
        "trickle",
        "refuse",
        "unanswered",
        "skew",
        "skew-events",
    }


def test_a_cut_ends_the_connection_without_a_word():
    request = '{"type":"CONNECT","request_id":"1","symbols":["A"],"resolutions":["1m"]}'
    ends = []
    for _ in range(2):
        with Venue(speed="max", bars=2000, start=0x1234567890, faults="cut:0.001") as v:
            with connect(v.url, compression=None) as connection:
                connection.send(request)
                got = []
                with pytest.raises(ConnectionClosed) as caught:  # any of them
                    while True:
                        got.append(connection.recv(timeout=5))
                assert caught.value.rcvd is None
            v.wait_connections(0)
        ends.append(got)
    assert ends[0] == ends[1]  # at the same frame
    assert 1 < len(ends[0]) < 2000 * STEPS
