"""Recordings of decisions: they are read as they were written, however a run ends."""

import errno
import itertools
import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Child
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.recorded_decisions import (
    MINUTE,
    START,
    Window,
    bars,
    decision,
    describe_run,
    receipt,
    record,
)

from shmfeed.errors import BadArgumentError, RecordingError
from wealthdata import decide
from wealthdata.receipts import digest_of
from wealthdata.runner import recording as recordings
from wealthdata.runner.recorded_bars import RecordedBars
from wealthdata.runner.recorded_run import read_recording
from wealthdata.runner.recording import (
    Recording,
    RunDescription,
    open_recording,
    strategy_labels,
)


@pytest.fixture
def run(tmp_path: Path) -> RunDescription:
    return describe_run(tmp_path)


def test_a_run_is_read_as_it_was_written(tmp_path: Path, run: RunDescription):
    made = [
        decision(3, {"side": "buy"}, receipt(bars(0))),
        decision(4, None, receipt(bars(1)), receipt(bars(0), symbol="B")),
        decision(5, [1, "x"], receipt([])),
    ]
    found = record(tmp_path / "d.jsonl", run, made)
    assert [(d.time, d.what, d.strategy) for d in found.decisions] == [
        (d.time, d.what, d.strategy) for d in made
    ]
    assert (found.symbols, found.frequency, found.mode) == (("A", "B"), "1m", "live")
    assert [each.file for each in found.strategies] == ["ma.py"]
    assert (found.first, found.last) == (made[0].time, made[-1].time)
    assert not found.cut_off
    lines = (tmp_path / "d.jsonl").read_text().splitlines()
    assert [json.loads(line).get("what") for line in lines[1:-1]] == [
        each.what for each in made
    ]
    assert json.loads(lines[2])["receipts"][0]["bars"] == [  # the others were there
        [START + 3 * MINUTE, 1.0, 3.0, 0.5, 1.5, 3.0]
    ]


VALUES = st.sampled_from([1.0, 2.5, -0.0, np.nan, np.inf])
WINDOWS = st.lists(
    st.dictionaries(st.integers(0, 7), st.tuples(*[VALUES] * 5), max_size=5),
    max_size=8,
)


@given(windows=WINDOWS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_each_window_is_read_as_it_was(
    tmp_path: Path, run: RunDescription, windows: list[dict[int, Any]]
):
    """Windows have holes, overlap, go back, and have bars that were revised."""
    sorted_windows: list[Window] = [sorted(each.items()) for each in windows]
    pairs = itertools.zip_longest(*[iter(sorted_windows)] * 2, fillvalue=[])
    made = [decision(n, n, *map(receipt, pair)) for n, pair in enumerate(pairs, 1)]
    found = record(tmp_path / "d.jsonl", run, made)
    for one, other in zip(made, found.decisions, strict=True):
        for was, told in zip(one.receipts, other.receipts, strict=True):
            read = told.bars()
            values = np.array([[*each] for each in read.values()], float)
            assert digest_of(np.array([*read]), values.reshape(-1, 5).T) == was.digest


def test_windows_with_more_bars_than_are_remembered(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("wealthdata.runner.recorded_bars._MOST", 100)
    known = RecordedBars()
    total = 0
    for number in range(0, 2000, 5):
        made = receipt(bars(number, 20))
        new, without = known.add(made.open_time, made.values)
        total += len(new)
        assert without == []
    assert total == 2015
    assert len(known._opened) < 1000
    old = receipt(bars(0))
    assert len(known.add(old.open_time, old.values)[0]) == 3


def test_reads_without_a_decision_stand_at_the_end(tmp_path: Path, run: RunDescription):
    from shmfeed.bar import Bar
    from wealthdata.decisions import acting_strategy
    from wealthdata.handed import current_record
    from wealthdata.kept_bars import Origin

    path = tmp_path / "d.jsonl"
    bar = Bar(START, START + MINUTE, 1.0, 2.0, 0.5, 1.5, 9.0)
    origin = Origin("default", None, "live", None, "A", "1m")
    with open_recording(path, run) as recording:
        recording.handled(START + MINUTE)
        for label in ("ma.py", "other"):  # the second is no strategy of the run
            with acting_strategy(label):
                current_record().hand_bar(origin, bar)
    found = read_recording(path)
    (rest,) = found.undecided
    assert rest.strategy == "ma.py"
    assert rest.receipts[0].bars() == {START: (1.0, 2.0, 0.5, 1.5, 9.0)}
    assert found.decisions == []
    assert (found.first, found.last) == (START + MINUTE, START + MINUTE)


def test_an_open_recording_has_each_decision_of_the_process(
    tmp_path: Path, run: RunDescription
):
    path = tmp_path / "d.jsonl"
    with open_recording(path, run):
        decide("one")
        threading.Thread(target=decide, args=("two",)).run()
    decide("three")
    assert [each.what for each in read_recording(path).decisions] == ["one", "two"]


def test_threads_may_decide_at_once(tmp_path: Path, run: RunDescription):
    path = tmp_path / "d.jsonl"
    with open_recording(path, run) as recording:

        def act(name: str) -> None:
            for number in range(50):
                window = bars(number, close=1.0)
                made = decision(number, [name, number], receipt(window))
                recording.note(made)

        threads = [threading.Thread(target=act, args=(name,)) for name in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = read_recording(path).decisions
    assert len(found) == 150
    for each in found:
        opened = [START + (each.what[1] + n) * MINUTE for n in range(3)]
        assert [*each.receipts[0].bars()] == opened


# The file.


def test_each_line_is_written_by_one_call(
    tmp_path: Path, run: RunDescription, monkeypatch: pytest.MonkeyPatch
):
    calls: list[bytes] = []
    write = os.write

    def count(file: int, data: Any) -> int:
        calls.append(bytes(data))
        return write(file, data)

    monkeypatch.setattr(recordings.os, "write", count)
    record(tmp_path / "d.jsonl", run, [decision(n, n) for n in range(5)])
    assert len(calls) == 7
    assert all(call.count(b"\n") == 1 and call.endswith(b"\n") for call in calls)


def test_a_call_that_writes_a_part_is_gone_on_with(
    tmp_path: Path, run: RunDescription, monkeypatch: pytest.MonkeyPatch
):
    write = os.write
    monkeypatch.setattr(recordings.os, "write", lambda f, data: write(f, data[:7]))
    found = record(tmp_path / "d.jsonl", run, [decision(n, n) for n in range(3)])
    assert [each.what for each in found.decisions] == [0, 1, 2]


@pytest.mark.parametrize("part", [0, 7])
def test_a_full_disk_is_told_and_leaves_whole_lines(
    tmp_path: Path, run: RunDescription, monkeypatch: pytest.MonkeyPatch, part: int
):
    path = tmp_path / "d.jsonl"
    write = os.write
    with pytest.raises(RecordingError), open_recording(path, run) as recording:
        recording.note(decision(1, "kept"))
        whole = path.read_bytes()
        begun = itertools.count()

        def fill_up(file: int, data: Any) -> int:
            if next(begun) or not part:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(file, data[:part])

        monkeypatch.setattr(recordings.os, "write", fill_up)
        for _ in range(2):
            with pytest.raises(
                RecordingError, match="No space left on device; it ends"
            ):
                recording.note(decision(2, "lost"))
            assert path.read_bytes() == whole
        monkeypatch.undo()
        recording.note(decision(3, "later ones are not recorded"))
    found = read_recording(path)
    assert [each.what for each in found.decisions] == ["kept"]
    assert found.cut_off
    assert path.read_bytes() == whole


def test_a_real_full_disk_is_told(run: RunDescription):
    with pytest.raises(RecordingError, match="'/dev/full': No space left on device"):
        open_recording("/dev/full", run)


def test_a_pipe_without_a_reader_is_told(tmp_path: Path, run: RunDescription):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open_recording(path, run) as recording:
        recording.note(decision(1, "read"))
        assert os.read(reader, 1 << 16).count(b"\n") == 2
        os.close(reader)
        with pytest.raises(RecordingError, match="Broken pipe"):
            recording.note(decision(2, "x"))


def test_a_recording_that_was_cut_off_anywhere_is_readable(
    tmp_path: Path, run: RunDescription
):
    path, cut = tmp_path / "d.jsonl", tmp_path / "cut.jsonl"
    record(path, run, [decision(n, n, receipt(bars(n))) for n in range(3)])
    data = path.read_bytes()
    header = data.index(b"\n") + 1
    for size in range(header, len(data)):
        cut.write_bytes(data[:size])
        found = read_recording(cut)
        whole = min(data[header:size].count(b"\n"), 3)
        assert [each.what for each in found.decisions] == [*range(whole)]
        assert found.cut_off
    for size in (0, 1, header - 1):
        cut.write_bytes(data[:size])
        with pytest.raises(BadArgumentError, match="is not a recording of decisions"):
            read_recording(cut)


KILLED = """
import sys
from wealthdata import decide
from wealthdata.runner.recording import RunDescription, open_recording

run = RunDescription((sys.argv[1],), ("A",), "1m", "live")
with open_recording(sys.argv[2], run):
    number = 0
    while True:
        decide({"number": number, "text": "x" * 5000})
        number += 1
        if number == 20:
            print("writes", flush=True)
"""


def test_a_killed_process_leaves_whole_lines(
    tmp_path: Path, run: RunDescription, child: Child
):
    path = tmp_path / "d.jsonl"
    process = child(KILLED, run.strategies[0], path)
    assert process.stdout.readline() == "writes\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    found = read_recording(path)
    numbers = [each.what["number"] for each in found.decisions]
    assert numbers == [*range(len(numbers))]
    assert len(numbers) >= 20
    assert found.cut_off


# Other files, and damaged ones.


def test_another_file_is_not_overrecord(tmp_path: Path, run: RunDescription):
    source = Path(run.strategies[0])
    before = source.read_text()
    with pytest.raises(BadArgumentError, match="exists and is not a recording"):
        open_recording(source, run)
    assert source.read_text() == before
    path = tmp_path / "d.jsonl"
    record(path, run, [decision(n, n) for n in range(3)])
    assert record(path, run, []).decisions == []  # an earlier recording is replaced


@pytest.mark.parametrize("begins", [False, True])
def test_a_run_that_fails_before_it_begins_replaces_nothing(
    tmp_path: Path, run: RunDescription, begins: bool
):
    """The run that has begun is the control."""
    path, new = tmp_path / "d.jsonl", tmp_path / "new.jsonl"
    record(path, run, [decision(1, "earlier")])
    for each in (path, new):
        with (
            pytest.raises(ZeroDivisionError),
            open_recording(each, run) as recording,
        ):
            if begins:
                recording.handled(decision(2, "x").time)
            raise ZeroDivisionError
    assert new.exists() == begins
    kept = [each.what for each in read_recording(path).decisions]
    assert kept == ([] if begins else ["earlier"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no/such/folder.jsonl", "cannot write the recording '.*No such file"),
        (".", "cannot write the recording '.*Is a directory"),
    ],
)
def test_a_recording_that_cannot_be_created(
    tmp_path: Path, run: RunDescription, name: str, message: str
):
    with pytest.raises(BadArgumentError, match=message):
        open_recording(tmp_path / name, run)


def test_a_strategy_that_cannot_be_read_leaves_no_file(
    tmp_path: Path, run: RunDescription
):
    gone = run._replace(strategies=(str(tmp_path / "gone.py"),))
    with pytest.raises(BadArgumentError, match=r"cannot read the strategy '.*gone.py'"):
        open_recording(tmp_path / "d.jsonl", gone)
    assert not (tmp_path / "d.jsonl").exists()


def change(at: int, **others: Any) -> Callable[[list[str]], None]:
    """Return a change of some keys of a line; None removes a key."""

    def apply(lines: list[str]) -> None:
        line = json.loads(lines[at]) | others
        kept = {key: value for key, value in line.items() if value is not None}
        lines[at] = json.dumps(kept)

    return apply


def put(at: int, text: str) -> Callable[[list[str]], None]:
    return lambda lines: lines.__setitem__(at, text)


DAMAGED: list[tuple[Callable[[list[str]], None], str]] = [
    (
        put(0, "{}"),
        r"d.jsonl is not a recording of decisions; `python -m wealthdata run",
    ),
    (put(0, "[]"), "is not a recording"),
    (
        put(0, "open_time,close"),
        r"not a recording of decisions; its first line: Expecting value",
    ),
    (change(0, version=2), "is a recording of version 2; this package reads version 1"),
    (
        change(0, strategies=None),
        "not a recording of decisions; its first line: it lacks 'strategies'",
    ),
    (
        change(0, symbols=3),
        "not a recording of decisions; its first line: symbols is 3; it must be a list",
    ),
    (put(2, '{"time": 1'), r"d.jsonl, line 3 is damaged: Expecting ',' delimiter"),
    (put(2, ""), "line 3 is damaged"),
    (put(2, "\xff"), "line 3 is damaged"),
    (put(2, "[" * 100_000), "line 3 is damaged"),
    (put(2, "3"), "line 3 is damaged: it is 3; it must be an object"),
    (change(2, time=None), "line 3 is damaged: it lacks 'time'"),
    (
        change(2, time="now"),
        "line 3 is damaged: time is 'now'; it must be an int of ms UTC",
    ),
    (change(2, receipts=[{}]), "line 3 is damaged: it lacks 'receipts\\[0\\].feed'"),
    (change(2, receipts=3), "line 3 is damaged: receipts is 3; it must be a list"),
    (change(4, first=None), "line 5 is damaged: it lacks 'first'"),
    (
        lambda lines: lines.append(lines[2]),
        "line 6 is damaged: it follows the line that",
    ),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGED)
def test_a_damaged_recording_is_named_with_its_line(
    tmp_path: Path,
    run: RunDescription,
    damage: Callable[[list[str]], None],
    message: str,
):
    path = tmp_path / "d.jsonl"
    record(path, run, [decision(n, n, receipt(bars(n))) for n in range(3)])
    lines = path.read_text().splitlines()
    damage(lines)
    path.write_bytes("".join(f"{line}\n" for line in lines).encode("latin-1"))
    with pytest.raises(BadArgumentError, match=message):
        read_recording(path)


def test_a_file_that_is_not_there(tmp_path: Path):
    with pytest.raises(BadArgumentError, match=r"cannot read the recording '.*No such"):
        read_recording(tmp_path / "gone.jsonl")
    with pytest.raises(BadArgumentError, match="Is a directory"):
        read_recording(tmp_path)


def test_two_files_of_one_name_are_told_apart():
    assert strategy_labels(["a/x.py", "y.py"]) == ["x.py", "y.py"]
    assert strategy_labels(["a/x.py", "b/x.py"]) == ["a/x.py", "b/x.py"]


def test_closing_twice_does_nothing(tmp_path: Path, run: RunDescription):
    recording: Recording = open_recording(tmp_path / "d.jsonl", run)
    recording.close()
    data = recording.path.read_bytes()
    recording.close()
    assert recording.path.read_bytes() == data
