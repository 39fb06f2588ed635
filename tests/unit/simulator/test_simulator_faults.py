"""Faults of frames: their specification, their timing, and their effect."""

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
from shmfeed.simulator.binance import binance_frames
from shmfeed.simulator.faults import (
    FAULT_KINDS,
    ConnectionFaults,
    Fault,
    FaultSchedule,
    faults_help,
    parse_faults,
)
from shmfeed.simulator.faults.injection import FRAME_FAULTS
from shmfeed.simulator.faults.rest import ANSWER_EDITS, ROW_EDITS
from shmfeed.simulator.faults.spec import (
    CLOCK,
    CONNECTIONS,
    REQUESTS,
    STATE,
    TRUTH,
    example,
)
from shmfeed.simulator.frames import payload_of
from shmfeed.simulator.schedule import all_states, open_times_before
from shmfeed.simulator.wealthai import wealthai_frames

DOCS = Path(__file__).parents[3] / "docs/faults.md"
KEY = ("A", "1m")
STATES = all_states(7, KEY, open_times_before(6_000_000, "1m", 100))
OF_FRAMES = [n for n, k in FAULT_KINDS.items() if k.target in {"frames", "bars"}]
OF_CLOSES = [n for n, k in FAULT_KINDS.items() if k.target == "closing frames"]
ALWAYS = math.inf


def encode_wealthai(key, states):
    return wealthai_frames(key, states, closed_flag=True)


FRAMES = encode_wealthai(KEY, STATES)


def faults(text, seed=1, number=1, encode=encode_wealthai):
    return ConnectionFaults(parse_faults(text), seed, number, encode)


def faulty(text, seed=1, number=1, encode=encode_wealthai):
    return faults(text, seed, number, encode).frames(KEY, STATES)


def messages(frames):
    return [json.loads(payload_of(frame)) for frame in frames]


def form(name, rate):
    """Return the fault with its argument, if it needs one."""
    return f"{example(name)}:{rate}"


# The specification


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
        ("refuse:429:2s", Fault("refuse", 429.0, 1.0, 0.0, ALWAYS, False, wait=2.0)),
        ("refuse:9s:0.5", Fault("refuse", 0.0, 0.5, 0.0, ALWAYS, False, wait=9.0)),
        ("close:1013@2", Fault("close", 1013.0, 1.0, 2.0, ALWAYS, False)),
        ("future:90m@1", Fault("future", 5400.0, 1.0, 1.0, ALWAYS, True)),
        (
            "mute-stream:A/1m:moved@2",
            Fault("mute-stream", 0.0, 1.0, 2.0, ALWAYS, False, "A/1m", "moved"),
        ),
        (
            "disagree:odd:0.5",
            Fault("disagree", 0.0, 0.5, 0.0, ALWAYS, False, "", "odd"),
        ),
        ("lag:1s", Fault("lag", 1.0, 1.0, 0.0, ALWAYS, False)),
        ("ban:30s@4", Fault("ban", 30.0, 1.0, 4.0, ALWAYS, False)),
        ("going-away:.5@2", Fault("going-away", 0.5, 1.0, 2.0, ALWAYS, False)),
    ],
)
def test_a_fault_is_parsed(text, fault):
    assert parse_faults(text) == (fault,)
    assert parse_faults(f",{text},,{text},") == (fault, fault)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wrong:0.1", "unknown name 'wrong'; one of: lost lost-close gap"),
        ("LOST", "unknown name 'LOST'"),
        ("@2", "unknown name ''"),
        (":0.5", "unknown name ''"),
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
        ("ack-late", "no DELAY; ack-late:DELAY[:RATE]"),
        ("ack-late:0.5:3s", "'3s'"),
        ("delay:-3s", "'-3s'"),
        ("skew", "no SHIFT; "),
        ("skew:90h", "'90h'; skew:SHIFT[@SECONDS[+SECONDS]], SHIFT such as +90s"),
        ("trickle", "no PACE; "),
        ("trickle:20", "'20'; trickle:PACE[@SECONDS[+SECONDS]], PACE such as 20B/s"),
        ("trickle:0B/s", "'0B/s'"),
        ("oversized:1TB", "'1TB'; oversized[:SIZE][:RATE]"),
        ("refuse:200", "'200'; refuse[:STATUS][:WAIT][:RATE]"),
        ("refuse:429:2", "'2'; refuse[:STATUS][:WAIT][:RATE]"),
        ("refuse:2s:429", "'429'"),
        ("refuse:0.5:2s", "'2s'"),
        ("close", "no CODE; close:CODE[@SECONDS[+SECONDS]], CODE such as 1013"),
        ("close:99", "'99'"),
        ("future:0", "no SHIFT; future:SHIFT[:RATE]"),
        ("mute-stream", "no STREAM; mute-stream:STREAM[:UNTIL]"),
        ("mute-stream:A:ever", "'ever'; mute-stream:STREAM[:UNTIL]"),
        ("mute-stream:A+B", "STREAM such as BTC/1m, UNTIL asked or moved"),
        ("lag:odd", "no DELAY; lag:DELAY[:WHICH]"),
        ("refuse-symbol:", "''; refuse-symbol:SYMBOL[@SECONDS[+SECONDS]]"),
        ("close:1013:0.5", "'0.5'"),
        ("refuse:500.5", "'500.5'; refuse[:STATUS][:WAIT][:RATE]"),
        ("lost:0.1,cut:x", "fault 'cut:x' is not accepted: 'x'"),
    ],
)
def test_a_bad_fault_is_refused_with_its_value_and_form(text, message):
    with pytest.raises(BadArgumentError) as caught:
        parse_faults(text)
    assert message in str(caught.value)


def test_some_faults_need_a_protocol_or_made_bars(tmp_path):
    with pytest.raises(BadArgumentError, match="'skew-events' needs protocol"):
        Venue(faults="skew-events:+1s")
    assert Venue(faults="skew-events:+1s", timestamps=True)
    with pytest.raises(BadArgumentError, match="'going-away' needs protocol"):
        Venue(faults="going-away:1s")
    recording = tmp_path / "recording"
    recording.write_text("ws://x\n0: {}\n")
    with pytest.raises(BadArgumentError, match="gap, nan do not work with replay"):
        Venue(replay=recording, faults="cut@1,gap:0.1,nan")
    with Venue(speed=None, faults="duplicate") as venue:
        with pytest.raises(BadArgumentError, match="unknown name 'gone'"):
            venue.set_faults("gone")
        with pytest.raises(BadArgumentError, match="skew-events"):
            venue.set_faults("skew-events:+1s")


def test_each_fault_is_in_the_help_and_in_the_docs(capsys):
    lines = faults_help().splitlines()
    assert [line.split()[0].split(":")[0] for line in lines] == list(FAULT_KINDS)
    assert max(map(len, lines)) <= 88
    with pytest.raises(SystemExit):
        main(["simulate", "--help"])
    assert faults_help() in capsys.readouterr().out
    page = DOCS.read_text()
    assert [name for name in FAULT_KINDS if f"`{name}" not in page] == []


# Determinism


def test_without_faults_the_frames_are_unchanged():
    assert faulty("") == FRAMES


@pytest.mark.parametrize("name", OF_FRAMES + OF_CLOSES)
def test_the_seed_and_the_connections_number_decide(name):
    text = form(name, 0.01 if name.startswith("cut") else 0.5)
    first = faulty(text)
    assert faulty(text) == first
    assert first != FRAMES
    assert faulty(text, seed=2) != first
    assert faulty(text, number=2) != first


@pytest.mark.parametrize("other", ["lost:0", "cut:0", "garbage:0.5", "nan:0.5"])
def test_other_faults_do_not_change_which_frames_one_hits(other):
    def doubled(text):
        sent = faulty(text)
        return [frame for frame in FRAMES if sent.count(frame) == 2]

    assert 100 < len(doubled("duplicate:0.3")) < 400
    assert doubled(f"{other},duplicate:0.3") == doubled("duplicate:0.3")


def test_faults_are_due_at_their_times():
    now = [0.0]
    schedule = FaultSchedule(
        parse_faults("lost@2,duplicate@2+3,mute@1,gap:0@0"), "1", clock=lambda: now[0]
    )
    met = {name: [] for name in ("lost", "duplicate", "mute", "gap")}
    for time in (0.0, 0.9, 1.0, 2.0, 2.0, 4.9, 5.0, 9.0):
        now[0] = time
        for name, times in met.items():
            if schedule.due(name):
                times.append(time)
    assert met == {
        "lost": [2.0],
        "duplicate": [2.0, 2.0, 4.9],
        "mute": [1.0, 2.0, 2.0, 4.9, 5.0, 9.0],
        "gap": [],
    }
    now[0] = 1.5
    assert schedule.times(["mute", "duplicate"]) == [0.5, 3.5]


# Effects on frames


def test_lost_drops_and_duplicate_doubles_frames():
    assert faulty("lost") == []
    assert faulty("duplicate") == [frame for frame in FRAMES for _ in "ab"]
    assert 0.4 < len(faulty("lost:0.5")) / len(FRAMES) < 0.6


def test_lost_close_drops_closing_frames_and_gap_whole_bars():
    closing = FRAMES[STEPS - 1 :: STEPS]
    assert faulty("lost-close") == [frame for frame in FRAMES if frame not in closing]
    kept = messages(faulty("gap:0.5"))
    counts = {m["open_time"]: 0 for m in messages(FRAMES)}
    for message in kept:
        counts[message["open_time"]] += 1
    assert set(counts.values()) == {0, STEPS}  # all frames of a bar, or no frame
    assert faulty("gap@0") == FRAMES[STEPS:]  # once: one bar


def test_late_repeats_older_closed_bars():
    sent = messages(faulty("late"))
    newest = late = 0
    for message in sent:
        if message["open_time"] < newest:
            late += 1
            assert message["closed"] is True
        newest = max(newest, message["open_time"])
    assert late == len(FRAMES) - STEPS  # the first bar has no older one


def test_reorder_puts_a_close_behind_the_next_frame():
    sent = faulty("reorder")
    expected = FRAMES[: STEPS - 1]
    for start in range(STEPS - 1, len(FRAMES) - 1, STEPS):
        following = FRAMES[start + 1 : start + STEPS]
        expected += [following[0], FRAMES[start], *following[1:]]
    assert sent == expected  # the last close waits for a next frame
    closes = encode_wealthai(KEY, STATES[STEPS - 1 :: STEPS])
    in_a_row = faults("reorder").frames(KEY, STATES[STEPS - 1 :: STEPS])
    assert in_a_row == closes[:-1]


def test_delay_leaves_closes_to_the_sender():
    one = faults("delay:250ms")
    sent = one.frames(KEY, STATES)
    closing = FRAMES[STEPS - 1 :: STEPS]
    assert sent == [frame for frame in FRAMES if frame not in closing]
    assert one.delayed == [(0.25, frame) for frame in closing]


def test_revise_repeats_a_bar_with_another_volume():
    sent = messages(faulty("revise"))
    assert len(sent) == len(FRAMES) + 100
    for before, after in itertools.pairwise(sent):
        if before["open_time"] == after["open_time"] and before["closed"]:
            assert float(after["volume"]) > float(before["volume"])
            same = ("open", "high", "low", "close", "open_time", "closed")
            assert [after[n] for n in same] == [before[n] for n in same]


@pytest.mark.parametrize("encode", [encode_wealthai, "raw"])
@pytest.mark.parametrize("name", ["malformed", "off-grid", "nan", "infinite"])
def test_a_damaged_copy_comes_before_the_frame(name, encode):
    if encode == "raw":

        def encode(key, states):
            return binance_frames(key, states, combined=False)

    sent = faulty(name, encode=encode)
    assert sent[1::2] == encode(KEY, STATES)
    assert not any(is_valid(payload_of(frame)) for frame in sent[::2])
    assert all(is_valid(payload_of(frame)) for frame in sent[1::2])


def is_valid(payload):
    """Return True for a bar: JSON, finite, low <= high, on the grid of minutes."""
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


def test_fragments_split_a_message_with_a_ping_between():
    whole = {payload_of(frame) for frame in FRAMES}
    counts = set()
    for frame in faulty("fragments"):
        pieces = list(split_frames(frame))
        counts.add(len(pieces))
        assert pieces[1][:2] == (9, True)
        del pieces[1]
        assert [opcode for opcode, _, _ in pieces] == [1] + [0] * (len(pieces) - 1)
        assert [final for _, final, _ in pieces] == [False] * (len(pieces) - 1) + [True]
        assert b"".join(payload for _, _, payload in pieces) in whole
    assert counts == {3, 4, 5}


def split_frames(data):
    """Yield opcode, final bit and payload of each WebSocket frame."""
    while data:
        size, start = data[1], 2
        if size == 126:
            size, start = int.from_bytes(data[2:4], "big"), 4
        yield data[0] & 15, bool(data[0] & 128), data[start : start + size]
        data = data[start + size :]


def test_noise_oversized_and_truncated_break_the_framing():
    for noisy in faulty("noise")[::2]:
        assert noisy[0] & 0x70
    for begun in faulty("oversized")[::2]:
        assert begun == b"\x81\x7f" + (1 << 40).to_bytes(8, "big")
    assert faulty("oversized:2KiB")[0][2:] == (2048).to_bytes(8, "big")
    for short, frame in zip(faulty("truncated"), FRAMES, strict=True):
        declared, payload = int.from_bytes(short[2:10], "big"), short[10:]
        assert payload == payload_of(frame)
        assert 1 <= declared - len(payload) <= 64


@pytest.mark.parametrize("name", ["cut", "cut-inside"])
def test_nothing_follows_a_cut(name):
    one = faults(f"{name}:0.01")
    sent = one.frames(KEY, STATES)
    assert one.ended
    whole = len(sent) - (name == "cut-inside")
    assert 0 < whole < len(FRAMES)
    assert sent[:whole] == FRAMES[:whole]
    if name == "cut-inside":
        assert FRAMES[whole].startswith(sent[-1])
        assert 0 < len(sent[-1]) < len(FRAMES[whole])
    assert one.frames(KEY, STATES) == []


def test_every_fault_of_frames_is_implemented():
    remembered = {"gap", "late", "off-grid", "nan", "infinite", "future"}
    assert set(FRAME_FAULTS) | remembered == set(OF_FRAMES)
    lasting = {
        n for n, k in FAULT_KINDS.items() if k.target in {STATE, CLOCK, CONNECTIONS}
    }
    assert lasting == {
        "half-open",
        "mute",
        "mute-pongs",
        "trickle",
        "refuse",
        "unanswered",
        "slow-handshake",
        "ban",
        "close",
        "going-away",
        "lag",
        "mute-stream",
        "refuse-symbol",
        "refuse-later",
        "skew",
        "skew-events",
        "freeze",
        "halt",
    }
    others = {n for n, k in FAULT_KINDS.items() if k.target in {REQUESTS, TRUTH}}
    assert others == {"hole"} | {n for n in FAULT_KINDS if n.startswith("rest-")}
    of_rows, of_answers = set(ROW_EDITS), set(ANSWER_EDITS)
    of_bars = {"hole", "rest-lacks", "rest-corrects"}
    asked = {"rest-empty", "rest-behind", "rest-forming"}
    assert of_rows | of_answers | of_bars | asked == others


def test_a_frozen_stream_repeats_its_last_frame():
    one = faults("freeze")
    assert one.frames(KEY, STATES[:3]) == [FRAMES[0]] * 3
    assert one.frames(("B", "1m"), STATES[:1]) != FRAMES[:1]
    assert faulty("freeze:odd", number=2)[:3] == FRAMES[:3]


def test_a_cut_ends_the_connection_without_a_close_frame():
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
