"""A replay of frames: through codec, ledger, repair and ring, in recorded time."""

import json
import warnings

import pytest
from support.recordings import klines, recording
from support.replaying import START, kline, make_bar, run_steps, write_frames

import wealthdata
from shmfeed.bar import AFTER_GAP, BACKFILLED, CLOSED_BY_VENUE, POLLED, REVISED
from shmfeed.errors import BadArgumentError
from wealthdata.attachment import detach
from wealthdata.events import Gap, Health, Revised
from wealthdata.runner.replay import ReplayMode
from wealthdata.runner.steps import RunRequest, Step

MINUTE = 60_000
STREAMS = [("AAA", "1m"), ("BBB", "1m")]


@pytest.fixture(autouse=True)
def own_choices(monkeypatch):
    monkeypatch.delenv("SHMFEED_FEED", raising=False)
    yield
    wealthdata.choices.forget_choices()
    detach()


def final(number, symbol="AAA", price=100.0, after=0.1):
    """Return the time and the closing message of a bar."""
    bar = make_bar(number, price=price)
    at = (bar.close_time - START) / 1000 + after
    return at, kline(bar, symbol, "1m", True, START + round(at * 1000))


def played(path, symbols=("AAA", "BBB"), **options):
    items = []
    mode = ReplayMode(RunRequest(symbols, ("1m",)), path)
    return dict(run_steps(mode, items.append, **options)), items


def flags_of(seen):
    return [int(line.rsplit(",", 1)[1]) for line in seen.rows.splitlines()[1:]]


def test_frames_are_played_to_the_bars_of_a_feeder(tmp_path):
    frames = [final(n, s) for n in range(4) for s in ("AAA", "BBB")]
    path = write_frames(tmp_path / "r.frames", frames, STREAMS)
    seen, _ = played(path)
    assert list(seen) == [START + n * MINUTE for n in range(1, 5)]
    last = seen[START + 4 * MINUTE]
    assert last.closes == [("AAA", "1m"), ("BBB", "1m")]
    assert flags_of(last) == [CLOSED_BY_VENUE] * 4
    assert last.attrs["identity"] == "binance/spot/127.0.0.1"
    assert (last.attrs["due"], last.attrs["health"]) == (0, "live")


def test_a_read_before_the_first_step_is_not_stale(tmp_path):
    path = write_frames(tmp_path / "r.frames", [final(0)], STREAMS[:1])
    with ReplayMode(RunRequest(("AAA",), ("1m",)), path):
        frame = wealthdata.get_price("AAA", frequency="1m", on_stale="raise")
    assert len(frame) == 0
    assert frame.attrs["shmfeed"].health == "waiting"


def test_a_step_waits_for_a_symbol_as_it_does_live(tmp_path):
    frames = [
        final(0),
        final(0, "BBB", after=4.0),
        final(1),
        final(1, "BBB", after=9.0),
    ]
    frames += [final(2), final(2, "BBB")]
    path = write_frames(tmp_path / "r.frames", frames, STREAMS)
    seen, _ = played(path)
    lacking = [seen[START + n * MINUTE].lacking for n in (1, 2, 3)]
    assert lacking == [(), ("BBB",), ()]
    assert seen[START + 2 * MINUTE].closes == [("AAA", "1m")]


def test_history_before_the_begin_makes_no_steps(tmp_path):
    old = [final(n) for n in range(-3, 0)]
    frames = [(0.5, payload) for _, payload in old] + [final(0)]
    path = write_frames(tmp_path / "r.frames", frames, STREAMS[:1])
    seen, _ = played(path, ("AAA",))
    assert list(seen) == [START + MINUTE]
    assert len(seen[START + MINUTE].rows.splitlines()) == 1 + 4


def test_a_revision_is_told_and_read(tmp_path):
    frames = [final(0), final(1), final(1, price=300.0, after=3.0), final(2)]
    path = write_frames(tmp_path / "r.frames", frames, STREAMS[:1])
    seen, items = played(path, ("AAA",))
    (revised,) = (item for item in items if isinstance(item, Revised))
    assert (revised.old.close, revised.new.close) == (101.0, 301.0)
    assert flags_of(seen[START + 3 * MINUTE])[1] & REVISED
    assert not flags_of(seen[START + 2 * MINUTE])[1] & REVISED


def test_a_hole_is_a_hole(tmp_path):
    frames = [final(0), final(1), final(4)]
    path = write_frames(tmp_path / "r.frames", frames, STREAMS[:1])
    seen, items = played(path, ("AAA",))
    assert [g[2:] for g in items if isinstance(g, Gap)] == [
        (START + 2 * MINUTE, START + 3 * MINUTE, False)
    ]
    assert flags_of(seen[START + 5 * MINUTE])[-1] & AFTER_GAP


def rest_note(first, last, now):
    rows = []
    for number in range(first, last + 1):
        bar = make_bar(number)
        values = [bar.open, bar.high, bar.low, bar.close, bar.volume]
        rows.append(
            [
                bar.open_time,
                *map(str, values),
                bar.close_time - 1,
                str(bar.money),
                1,
                "0",
                "0",
                "0",
            ]
        )
    return {
        "rest": f"/api/v3/klines?symbol=AAA&interval=1m&limit={last - first + 1}",
        "status": 200,
        "headers": {},
        "date": START // 1000 + int(now),
        "body": json.dumps(rows),
    }


def test_answers_of_rest_come_at_their_time(tmp_path):
    """The warm-up fills the ring; a hole is closed once history has been asked."""
    frames = [final(-1), final(0), final(1), final(4), final(5)]
    notes = [(1.0, rest_note(-5, -2, 1.0)), (300.5, rest_note(2, 3, 300.5))]
    path = write_frames(tmp_path / "r.frames", frames, STREAMS[:1], extra=notes)
    seen, items = played(path, ("AAA",))
    assert len(seen[START + MINUTE].rows.splitlines()) == 1 + 6
    flags = flags_of(seen[START + 6 * MINUTE])
    assert [bool(f & (BACKFILLED | POLLED)) for f in flags] == [
        *[True] * 3,
        *[False, False, False, True, True, False, False],
    ]
    assert seen[START + 6 * MINUTE].attrs["gaps"] == 0
    assert not [item for item in items if isinstance(item, Gap)]


def test_a_recorded_outage_is_told(tmp_path):
    frames = [final(0), final(1)]
    end = 130.0
    again = [(140.0, {"open": 2, "date": START // 1000 + 140})]
    again += [(140.0, {"streams": 2, "keys": STREAMS[:1]})]
    notes = [(end, {"close": 1}), *again]
    frames += [final(2), final(3)]
    path = write_frames(tmp_path / "r.frames", frames, STREAMS[:1], extra=notes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, items = played(path, ("AAA",))
    told = [(h.old, h.new) for h in items if isinstance(h, Health)]
    assert told == [("live", "recovering"), ("recovering", "live")]


def test_a_cut_last_line_is_left_out(tmp_path):
    frames = [final(n) for n in range(3)]
    path = tmp_path / "r.frames"
    write_frames(path, frames, STREAMS[:1])
    path.write_bytes(path.read_bytes()[:-20])
    seen, _ = played(str(path), ("AAA",))
    assert list(seen) == [START + MINUTE, START + 2 * MINUTE]


def test_the_same_recording_gives_the_same_steps(tmp_path):
    frames = [final(n, s) for n in range(6) for s in ("AAA", "BBB") if n != 3]
    path = write_frames(tmp_path / "r.frames", frames, STREAMS)
    first, second = (played(path)[0] for _ in range(2))
    for at, seen in first.items():
        assert second[at][:3] == seen[:3]


@pytest.mark.parametrize(
    ("symbols", "message"),
    [(("CCC",), "no bar of CCC; it has AAA BBB"), (("aaa",), "did you mean AAA")],
)
def test_a_symbol_without_bars_is_named(tmp_path, symbols, message):
    frames = [final(0), final(0, "BBB")]
    path = write_frames(tmp_path / "r.frames", frames, STREAMS)
    with pytest.raises(BadArgumentError, match=message):
        ReplayMode(RunRequest(symbols, ("1m",)), path)


def test_a_timeframe_without_bars_is_named(tmp_path):
    path = write_frames(tmp_path / "r.frames", [final(0)], STREAMS[:1])
    with pytest.raises(BadArgumentError, match="no bars of AAA that make 1s"):
        ReplayMode(RunRequest(("AAA",), ("1s",)), path)


def test_a_recording_of_another_protocol_has_no_bar(tmp_path):
    path = write_frames(tmp_path / "r.frames", [final(0)], STREAMS[:1], "wealthai")
    with pytest.raises(BadArgumentError, match="without a bar of protocol 'wealthai'"):
        ReplayMode(RunRequest(("AAA",), ("1m",)), path)
    path = write_frames(tmp_path / "r.frames", [final(0)], STREAMS[:1], "unheard")
    with pytest.raises(BadArgumentError, match="unheard"):
        ReplayMode(RunRequest(("AAA",), ("1m",)), path)


@pytest.mark.parametrize("name", ["binance-spot.frames", "binance-usdm.frames"])
def test_real_traffic_is_played(name):
    """The bars that Binance has closed, with its values."""
    path = recording(name)
    closed = {}
    for one in klines(path):
        if one["x"]:
            closed.setdefault(one["T"] + 1, {})[one["s"]] = float(one["c"])
    symbols = tuple(sorted({one["s"] for one in klines(path)}))
    mode = ReplayMode(RunRequest(symbols, ("1m",)), str(path))
    steps = {}
    with mode:
        for step in mode.steps():
            if isinstance(step, Step):
                steps[step.close_time] = {
                    c.symbol: c.bar.close
                    for c in step.closed
                    if c.bar.flags & CLOSED_BY_VENUE
                }
    assert {at: found for at, found in steps.items() if found} == closed
