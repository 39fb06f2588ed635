"""Backtests that are recorded: each decision with its bars, compared run by run."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.recorded_decisions import MINUTE, START

from wealthdata import choices, read_log
from wealthdata.runner.main import main
from wealthdata.runner.recorded_run import RecordedRun, read_recording

NAMES = "symbol,timeframe,open_time,close_time,open,high,low,close,volume\n"
COUNT = 40
READS = """
from wealthdata import decide, get_price


def handle_bar(context, bar):
    frame = get_price(bar.symbol, count=5, frequency="1m", fields="close")
    if bar.close > 100.0:
        decide({"symbol": bar.symbol, "mean": float(frame.close.mean())})
"""
IS_HANDED = """
from wealthdata import decide


def handle_data(context, data):
    if data["A"].close >= 125.0:
        decide("high")
"""
OWN_FRAMES = """
from wealthdata import decide, get_price


def handle_data(context, data):
    g.reads = getattr(g, "reads", 0) + 1
    get_price("B", count=3, frequency="1m")
    decide(g.reads, get_price("A", count=2, frequency="1m"))
"""
IN_A_THREAD = """
import threading
from wealthdata import decide, get_price


def work():
    get_price("A", count=2, frequency="1m")
    decide("in a thread")


def handle_data(context, data):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
"""
FULL = """
from wealthdata import decide


def handle_data(context, data):
    decide("x" * 5000)
"""


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    choices.forget_choices()


def bar_file(name: str, **revised: float) -> str:
    """Write bars of A and B; `A20=0.5` adds to the close of bar 20 of A."""
    path = Path(f"{name}.csv")
    with path.open("w") as file:
        file.write(NAMES)
        for number in range(COUNT):
            for symbol, start in (("A", 90.0), ("B", 50.0)):
                opened = START + number * MINUTE
                close = start + number + revised.get(f"{symbol}{number}", 0.0)
                values = f"{start + number},{close + 20.0},1.0,{close},10.0"
                line = f"{symbol},1m,{opened},{opened + MINUTE},{values}"
                file.write(f"{line}\n")
    return str(path)


def run(bars: str, record: str, *programs: str) -> tuple[int, RecordedRun]:
    files = []
    for number, program in enumerate(programs):
        files.append(f"s{number}.py")
        Path(files[-1]).write_text(program)
    streams = ("--symbols", "A,B", "--frequency", "1m")
    code = main(["run", *files, *streams, "--backtest", bars, "--record", record])
    return code, read_recording(record)


def test_two_runs_over_the_same_bars_decide_the_same() -> None:
    bars = bar_file("bars")
    for name in ("a", "b"):
        code, found = run(bars, f"{name}.jsonl", READS)
        assert code == 0
    assert len(found.decisions) == 29  # closes of A from 101 on
    assert (found.first, found.last) == (START + MINUTE, START + COUNT * MINUTE)
    assert main(["compare", "a.jsonl", "b.jsonl"]) == 0


def test_a_thread_decides_for_the_one_strategy_of_a_run() -> None:
    code, found = run(bar_file("bars"), "a.jsonl", IN_A_THREAD)
    assert code == 0
    assert {one.strategy for one in found.decisions} == {"s0.py"}
    assert all(one.receipts for one in found.decisions)
    # Of two strategies a thread says not which one it acts for.
    _, found = run(bar_file("bars"), "b.jsonl", IN_A_THREAD, READS)
    assert {one.strategy for one in found.decisions} == {None, "s1.py"}


@pytest.mark.parametrize("program", [READS, IS_HANDED], ids=["reads", "is handed"])
@pytest.mark.parametrize(
    "revised", [{"A36": 0.25}, {"A36": -12.0}], ids=["another one", "none"]
)
def test_a_bar_that_was_revised_in_between_is_named(
    program: str, revised: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    run(bar_file("a"), "a.jsonl", program)
    run(bar_file("b", **revised), "b.jsonl", program)
    code = main(["compare", "a.jsonl", "b.jsonl"])
    text = capsys.readouterr().out
    same = program is IS_HANDED and revised["A36"] > 0  # "high" in both
    assert code == (0 if same else 1)
    assert "A 1m, the bar that opens at 2026-01-01 00:36:00 UTC, was revised: " in text
    assert f"close 126.0 in A, {126.0 + revised['A36']} in B" in text
    moment = "2026-01-01 00:37:00 UTC"
    assert ("the decisions are the same" if same else f"difference: {moment}") in text


def test_each_strategy_has_the_receipts_of_its_own_reads() -> None:
    code, found = run(bar_file("bars"), "d.jsonl", OWN_FRAMES, READS)
    assert code == 0
    for decision in found.decisions:
        symbols = {receipt.stream[1] for receipt in decision.receipts}
        if decision.strategy == "s0.py":
            assert symbols == {"A"}
            assert len(decision.receipts[0].bars()) <= 2
        else:
            assert "A" in symbols
            longest = max(len(receipt.bars()) for receipt in decision.receipts)
            assert longest >= min(5, len(decision.receipts[0].bars()))
    assert {each.strategy for each in found.decisions} == {"s0.py", "s1.py"}


def test_a_recording_that_cannot_be_written_ends_the_strategy(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("full.py").write_text(FULL)
    bars = bar_file("bars")
    streams = ("--symbols", "A,B", "--frequency", "1m", "--backtest", bars)
    code = main(["run", "full.py", *streams, "--record", "/dev/full"])
    assert code == 1
    assert "No space left on device" in capsys.readouterr().err


def test_the_reads_are_not_tracked_after_the_run() -> None:
    run(bar_file("bars"), "d.jsonl", READS)
    assert read_log.tracked <= {"decide"}
