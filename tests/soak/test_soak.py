"""The soak's judges: each has a case that must fail."""

import itertools
import os

import numpy as np
import pytest
from soak.incidents import CUT, FAULT, KILL, MUTE, REST_FAULTS, Load, incidents
from soak.judges import CALL_CPU, RECOVERY_SECONDS, TROUBLED_SECONDS, drift, judge
from soak.reader import Calls, Kept, Reader
from soak.recovery import Recovery
from soak.report import report, write_table
from soak.stage import SEED, Findings, audit
from soak.truth import SECOND, Truth
from soak.usage import Sample, Usage

from shmfeed.simulator import bar, expected
from shmfeed.simulator.faults import parse_faults
from shmfeed.writer import create

BEGIN = 1_700_000_000_000
SYMBOL = "S00USDT"
NUMBERS = np.arange(200, dtype=np.int64)
TIMES = BEGIN + NUMBERS * SECOND
FAULTS = "hole:0.1,rest-corrects:2s:0.2"


def test_incidents_follow_from_the_seed_and_have_every_fault():
    load = Load()
    made = incidents(load, 1)
    assert made == incidents(load, 1)
    assert made != incidents(load, 2)
    kinds = [one.kind for one in made]
    assert (kinds.count(KILL), kinds.count(CUT)) == (29, 39)
    assert {one.faults for one in made if one.kind == FAULT} == {"", *REST_FAULTS}
    assert [one.on for one in made if one.kind == MUTE] == [True, False] * 14
    kills = [one.begin for one in made if one.kind == KILL]
    for kill in kills[::2]:
        near = [one for one in made if kill - 4 < one.begin < kill + 5]
        assert [one.kind for one in near if one.kind != FAULT] == [KILL]
        assert not any(one.faults for one in near)
    assert all(a.begin <= b.begin for a, b in itertools.pairwise(made))
    assert all(parse_faults(one.faults) or one.faults == "" for one in made)
    none = Load(kill_every=0, cut_every=0, fault_every=0, mute_every=0)
    assert incidents(none, 1) == []


# The truth


def test_rows_of_the_socket_and_of_rest_are_right_and_no_others():
    truth = Truth(SEED, FAULTS)
    bars = truth.bars(SYMBOL, BEGIN, int(TIMES[-1]))
    assert 150 < len(bars) < 200  # without the holes
    times = np.array([one.open_time for one in bars], np.int64)
    final = np.array([one[2:7] for one in bars]).T
    sent = expected(SEED, SYMBOL, "1s", times)
    corrected = (final != sent).any(axis=0)
    assert 15 < corrected.sum() < 80
    assert not truth.wrong(SYMBOL, times, final).any()
    assert not truth.wrong(SYMBOL, times, sent).any()
    assert not truth.wrong(SYMBOL, times, final, final=True).any()
    assert (truth.wrong(SYMBOL, times, sent, final=True) == corrected).all()
    spoilt = sent.copy()
    spoilt[3, 7] += 0.01
    assert np.flatnonzero(truth.wrong(SYMBOL, times, spoilt)).tolist() == [7]
    assert np.flatnonzero(truth.unpublished(SYMBOL, times, spoilt)).tolist() == [7]


def test_a_correction_has_the_value_that_its_text_has():
    truth = Truth(SEED, "rest-corrects:2s")
    [one] = truth.bars("S28USDT", 1_795_996_087_000, 1_795_996_087_000)
    assert one.volume == 1024.227  # 2 * 511.6135 + 1 ends in ..269999
    for one in truth.bars(SYMBOL, BEGIN, BEGIN + 500 * SECOND):
        assert all(float(f"{value:.8f}") == value for value in one[2:7]), one


def test_an_update_is_no_final_row_but_was_sent():
    truth = Truth(SEED, "")
    values = expected(SEED, SYMBOL, "1s", TIMES[:3])
    values[:, 1] = bar(SEED, SYMBOL, "1s", int(TIMES[1]), 5)[2:7]
    assert truth.wrong(SYMBOL, TIMES[:3], values).tolist() == [False, True, False]
    assert not truth.unpublished(SYMBOL, TIMES[:3], values).any()


def test_holes_are_the_venues():
    truth = Truth(SEED, FAULTS)
    held = {one.open_time for one in truth.bars(SYMBOL, BEGIN, int(TIMES[-1]))}
    holes = [int(time) for time in TIMES if int(time) not in held]
    assert all(truth.bar(SYMBOL, time) is None for time in holes)


# The reader


@pytest.fixture
def reader(feed_name):
    with create(feed_name, history=300, guard=64, max_streams=8) as writer:
        ring = writer.add_stream(SYMBOL, "1s")
        for time in TIMES[:100].tolist():
            made = bar(SEED, SYMBOL, "1s", time)
            ring.append(time, *made[2:8])
        made = Reader(feed_name, [SYMBOL], SEED, "", 1)
        made.ring = ring
        yield made
        made.close()
        writer.close(unlink=True)


def test_a_reader_finds_nothing_wrong_with_the_truth(reader):
    for _ in range(100):
        reader.read()
    assert reader.lines == []
    assert reader.tally["rows"] > 1000
    assert reader.result()["tally"]["kept"] > 10
    assert len(reader.calls.cpu) == len(reader.calls.clock) == 100


def append_wrong(ring):
    time = int(TIMES[100])
    ring.append(time, 5.0, 6.0, 4.0, 5.0, 1.0, 1.0)


def append_behind_a_hole(ring):
    time = int(TIMES[102])
    ring.append(time, *bar(SEED, SYMBOL, "1s", time)[2:8])


@pytest.mark.parametrize(
    ("append", "verb", "line"),
    [
        (append_wrong, "frame", "the venue never sent the row of"),
        (append_wrong, "flags", "1 final rows are wrong"),
        (append_wrong, "cut", "a cut has rows that the venue never sent"),
    ],
)
def test_a_wrong_row_is_a_violation(reader, append, verb, line):
    append(reader.ring)
    getattr(reader, verb)()
    assert len(reader.lines) == reader.tally["violations"] == 1
    assert line in reader.lines[0]


def test_missing_rows_are_those_that_the_frame_tells(reader):
    append_behind_a_hole(reader.ring)
    reader.frame()
    assert reader.lines == []
    frame = reader._price(SYMBOL, count=20)
    frame.attrs["shmfeed"]["gaps"] = 0  # a frame that keeps it secret
    reader._check(SYMBOL, frame, frame.to_numpy())
    assert reader.lines == [f"{SYMBOL}: 2 bars are missing, gaps says 0"]


def test_a_kept_frame_that_changes_and_rows_that_go_back_are_violations(reader):
    frame = reader._price(SYMBOL, count=20)
    values = frame.to_numpy(copy=True)
    reader._look_again(Kept(frame, values, 0.0))
    assert reader.lines == []
    reader._look_again(Kept(frame, values + 1, 0.0))
    assert reader.lines == ["a kept frame changed and says that it is valid"]
    reader._newest[SYMBOL] = int(TIMES[150])
    reader._check(SYMBOL, frame, values)
    assert "went back" in reader.lines[1]


def test_a_call_is_timed_by_cpu_and_clock():
    calls = Calls()
    total = calls.time(lambda: sum(range(1_000_000)))
    calls.close()
    assert total
    assert calls.cpu[0] > 0.001
    assert calls.clock[0] >= calls.cpu[0] / 2


# The figures


def usage_of(sizes, fds):
    found = Usage()
    found.samples["reader"] = [
        Sample(float(n * 5), int(size * 2**20), count)
        for n, (size, count) in enumerate(zip(sizes, fds, strict=True))
    ]
    return found


STEADY = usage_of([100.0] * 30, [9] * 30)


def recovery(seconds, *, put_off=0.0, is_troubled=False):
    return Recovery(0.0, 1, os.getpid(), is_troubled, seconds, put_off)


def judged(usage=STEADY, **figures):
    found = Findings(**figures)
    judge(found, usage)
    return found.violations


def test_growth_is_seen():
    assert STEADY.grown_fds() == {"reader": 0}
    assert STEADY.grown_memory()["reader"] == (0, pytest.approx(50 / 3600))
    assert judged() == []
    growing = usage_of([100 + n / 5 for n in range(30)], range(30))
    assert growing.grown_memory()["reader"][0] == pytest.approx(2)
    assert growing.grown_fds() == {"reader": 20}
    assert judged(growing) == [
        "reader has 20 descriptors more",
        "reader has 2.0 MiB more in its last third, over 1.0",
    ]
    # Each of several feeders starts small: their middle sizes are compared.
    assert judged(usage_of([100.0 + n % 4 for n in range(60)], [9] * 60)) == []


def test_a_slow_recovery_is_a_violation_unless_the_machine_was_busy():
    quick = [recovery(RECOVERY_SECONDS - 0.1)] * 30
    assert judged(recoveries=quick) == []
    slow = recovery(RECOVERY_SECONDS + 1)
    assert judged(recoveries=[*quick, slow]) == [
        "the p99 of recoveries is 2.67 s, more than 2 s"
    ]
    assert judged(recoveries=[*quick, recovery(3.0, put_off=1.5)]) == []
    assert judged(recoveries=[*quick, recovery(3.0, is_troubled=True)]) == []
    endless = recovery(TROUBLED_SECONDS + 1, is_troubled=True)
    assert "a recovery took 21.00 s" in judged(recoveries=[endless])[0]


def test_a_recovery_ends_with_the_next_feeder_and_names_its_phases():
    status = {"pid": 1, "state": "connected", "health": "live"}
    made = Recovery(100.0, 1, os.getpid())
    assert not made.look(status, 100.1)
    assert not made.look(status | {"pid": 2, "state": "connecting"}, 100.5)
    assert not made.look(status | {"pid": 2, "health": "recovering"}, 100.7)
    assert not made.look(status | {"pid": 2, "health": "recovering"}, 100.8)
    assert made.look(status | {"pid": os.getpid()}, 101.0)
    assert (made.seconds, [seen for _, seen in made.phases]) == (
        pytest.approx(1.0),
        ["no feeder", "connecting live", "connected recovering", "connected live"],
    )
    assert "0.70 connected recovering" in str(made)


def test_slow_calls_and_calls_that_become_slower_are_violations():
    rng = np.random.default_rng(SEED)
    calls = rng.exponential(0.0002, 9000).clip(max=CALL_CPU)
    assert judged(cpu=[calls.tolist()]) == []
    assert judged(cpu=[[*calls, CALL_CPU * 2]]) == [
        "1 calls took more than 10 ms of CPU time"
    ]
    assert judged(late=2) == ["2 calls took more than 100 ms"]
    slower = calls * np.linspace(1, 1.5, len(calls))
    found = judged(cpu=[slower.clip(max=CALL_CPU).tolist()] * 3)
    assert len(found) == 1
    assert "the p99 of a call's CPU time has grown by" in found[0]


def test_an_audit_that_does_not_end_well_is_a_violation(feed_name):
    with create(feed_name, history=300, guard=64, max_streams=8) as writer:
        writer.add_stream(SYMBOL, "1s")
        summary, found = audit(feed_name)  # no feeder can be asked for history
        writer.close(unlink=True)
    assert summary.startswith("exit 2, ")
    assert found[0] == f"shmfeed audit: {summary}"


def test_the_figures_stand_between_the_marks_of_a_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- soak -->\nold\n<!-- soak, end -->\nb\n")
    for _ in range(2):
        write_table(page, [("kills survived", "2")])
        table = "| figure | value |\n|---|---|\n| kills survived | 2 |\n"
        marked = f"<!-- soak -->\n{table}<!-- soak, end -->"
        assert page.read_text() == f"a\n{marked}\nb\n"
    page.write_text("no marks")
    with pytest.raises(SystemExit):
        write_table(page, [])


def test_the_report_has_every_figure():
    found = Findings(["S00USDT: a row is missing"], kills=2, reads=30)
    found.recoveries = [recovery(0.5), recovery(1.0, put_off=0.25)]
    found.cpu, found.clock = [[0.001] * 10 + [0.002] * 20], [0.01]
    found.messages, found.seconds = 6000, 4.0
    found.audit = "exit 0, feed soak: nothing differs"
    text = report(found, STEADY, 60.0)
    assert "kills survived: 2" in text
    assert "messages: 6,000, 1,500 a second under load" in text
    assert "p50 0.75, p99 0.995, max 1 s; not counting waits for a CPU p50 0.62" in text
    assert "`shmfeed audit` at the end: exit 0, feed soak: nothing differs" in text
    assert "slow recovery: 1.00 s, 0.25 off the CPU, alone" in text
    assert text.endswith("violations: 1\n  S00USDT: a row is missing")
    assert drift(found.cpu) == pytest.approx(1.0)
