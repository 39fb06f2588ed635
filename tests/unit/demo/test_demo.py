"""The demo: short ones in processes of their own, and what its check can see."""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.command_line import end
from support.waiting import until

from shmfeed.bar import duration
from shmfeed.cli.main import main
from shmfeed.demo.metrics import Histogram
from shmfeed.demo.options import LONGEST, Plan
from shmfeed.demo.runner import no_settings_from_outside
from shmfeed.demo.strategy import Truth
from shmfeed.segment.mapping import place
from shmfeed.simulator import bar, expected
from shmfeed.writer import create

pytest_plugins = ["support.command_process"]
pytestmark = pytest.mark.usefixtures("no_settings")

SEED = 11
START = 1_704_067_200_000  # 2024-01-01
FIGURES = ("bars in", "reads", "one read", "newest bar", "rows checked", "torn rows")


def test_a_short_demo(command) -> None:
    process = command("demo", "--seconds", "2", "--strategies", "2", "--symbols", "A,B")
    output, errors = process.communicate(timeout=40)
    assert (process.returncode, errors) == (0, ""), output
    begin, _, summary = output.partition("\n\n")
    assert begin.startswith("venue     ws://127.0.0.1:")
    assert len(re.findall(r"^ +\d s  bars \d+", begin, re.MULTILINE)) == 1
    assert summary.startswith("2 s, 1 feeder, 2 strategies, 2 symbols x 1s 1m\n")
    said = dict(re.findall(r"^  (\S.*?)  +(\S.*)$", summary, re.MULTILINE))
    assert set(FIGURES) <= set(said)
    assert said["torn rows"] == said["bars missing"] == said["reconnects"] == "0"
    assert int(said["rows checked"].replace(",", "")) > 10_000
    assert int(said["bars in"].split()[0]) >= 2
    assert summary.endswith("ok: every value that a strategy read is the venue's\n")
    assert not place(f"demo-{process.pid}").lock.exists()


def _started(process: subprocess.Popen[str]) -> tuple[dict, list[int]]:
    """The first figures of a demo with --json, and its children: feeder first."""
    figures = json.loads(process.stdout.readline())
    children = sorted(_children(process.pid))
    assert figures["pid"] in children
    return figures, sorted(children, key=lambda pid: pid != figures["pid"])


def _children(pid: int) -> Iterator[int]:
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that has ended just now
            yield from map(int, path.read_text().split())


def test_a_strategy_that_dies_is_told_and_fails_the_demo(command) -> None:
    process = command("demo", "--seconds", "2", "--strategies", "2", "--json")
    _, children = _started(process)
    os.kill(children[1], signal.SIGKILL)
    output, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (1, "")
    summary = json.loads(output.splitlines()[-1])["summary"]
    assert summary["ok"] is False
    said = f"strategy 1 (pid {children[1]}) was killed by signal 9"
    assert summary["failures"] == [said]
    assert summary["all"]["torn"] == 0


def test_ctrl_c_ends_it_with_a_summary(command) -> None:
    process = command("demo", "--seconds", "60", "--strategies", "1", "--json")
    _started(process)
    began = time.monotonic()
    code, output, errors = end(process, signal.SIGINT)
    assert time.monotonic() - began < 5
    assert (code, errors) == (0, "")
    assert json.loads(output.splitlines()[-1])["summary"]["ok"] is True


def test_ctrl_c_before_it_began_leaves_nothing(command) -> None:
    process = command("demo", "--seconds", "60", "--strategies", "8")
    process.stdout.readline()
    assert end(process, signal.SIGTERM)[0::2] == (130, "")


def test_a_killed_demo_takes_its_processes_with_it(command) -> None:
    process = command("demo", "--seconds", "60", "--strategies", "1", "--json")
    _, children = _started(process)
    process.kill()
    process.wait()
    until(lambda: not any(Path(f"/proc/{pid}/cwd").exists() for pid in children))
    where = place(f"demo-{process.pid}")
    where.segment.unlink()  # nobody was left to do it
    where.lock.unlink()


STREAMS = [(symbol, timeframe) for symbol in ("A", "B") for timeframe in ("1s", "1m")]


@pytest.fixture
def made_feed(feed_name, request):
    """Makes the feed that a strategy of the demo expects, one close price altered."""

    def make(wrong_in: tuple[str, str] | None) -> str:
        for stream in STREAMS:
            ring = writer.add_stream(*stream)
            for number in range(LONGEST):
                made = bar(SEED, *stream, START + number * duration(stream[1]))
                low = made.low
                if stream == wrong_in and number == LONGEST - 7:
                    low -= 0.01
                ring.append(made.open_time, made.open, made.high, low, *made[5:8])
        return feed_name

    with create(feed_name, history=LONGEST, max_streams=8) as writer:
        yield make
        writer.close(unlink=True)
    request.node.funcargs.clear()  # pytest would keep the mapping


@pytest.mark.parametrize(("wrong_in", "torn"), [(None, False), (("B", "1m"), True)])
def test_a_strategy_sees_one_wrong_value(made_feed, child, wrong_in, torn) -> None:
    order = {"number": 1, "feed": made_feed(wrong_in), "seed": SEED, "rest": 0}
    order["symbols"] = ["A", "B"]
    process = child("import shmfeed.demo.strategy as s; s.main()")
    process.stdin.write(json.dumps(order) + "\n")
    process.stdin.flush()
    assert json.loads(process.stdout.readline()) == {"ready": True}
    process.stdin.write("go\n")
    process.stdin.flush()
    first = json.loads(process.stdout.readline())
    output, errors = process.communicate(timeout=10)
    last = json.loads(output.splitlines()[-1])
    assert errors == ""
    assert last["reads"] >= first["reads"] > 100
    assert last["errors"] == last["lapped"] == 0
    assert bool(last["torn"]) is torn
    if torn:  # a row of one stream in four, in each of its frames
        assert last["torn"] == pytest.approx(last["reads"] / 4, abs=2)


def _rows(stream, count):
    length = duration(stream[1])
    opens = START + np.arange(count) * length
    return opens + length, expected(SEED, *stream, opens)


def test_the_truth_about_a_window_and_about_longer_ones() -> None:
    truth = Truth(SEED, 20)
    for stream in STREAMS:
        closes, values = _rows(stream, 50)
        for first in (0, 10, 30, 49, 50):
            assert truth.wrong(stream, closes[first:], values[:, first:]) == 0


def test_the_truth_sees_each_kind_of_wrong_row() -> None:
    truth, stream = Truth(SEED, 20), ("A", "1m")
    closes, values = _rows(stream, 20)
    for field in range(5):
        torn = values.copy()
        torn[field, 3] += 0.01
        assert truth.wrong(stream, closes, torn) == 1
    assert truth.wrong(stream, closes, np.full_like(values, np.nan)) == 20
    assert truth.wrong(("B", "1m"), closes, values) == 20
    late = closes.copy()
    late[7] += 1
    assert truth.wrong(stream, late, values) >= 1
    doubled = np.r_[closes[:10], closes[9:19]]
    assert truth.wrong(stream, doubled, np.c_[values[:, :10], values[:, 9:19]]) == 1


def test_a_missing_bar_is_not_a_wrong_one() -> None:
    closes, values = _rows(("A", "1m"), 20)
    kept = np.arange(20) != 8
    assert Truth(SEED, 20).wrong(("A", "1m"), closes[kept], values[:, kept]) == 0


def test_a_histogram_is_right_within_its_steps(rng) -> None:
    values = np.sort((10 ** rng.uniform(0, 9, 20_000)).astype(int))
    one, two = Histogram(), Histogram()
    for value in values.tolist():
        (one if value % 2 else two).add(value)
    both = Histogram()
    both.merge(json.loads(json.dumps(one.sparse())))
    both.merge(two.sparse())
    for share in (0.01, 0.5, 0.99, 1.0):
        exact = values[int(share * len(values)) - 1]
        assert both.quantile(share) == pytest.approx(exact, rel=0.07, abs=0.5)
    assert Histogram().quantile(0.5) is None


def test_a_histogram_takes_any_time() -> None:
    extremes = Histogram()
    extremes.add(0)
    assert extremes.quantile(0.5) == 0
    extremes.add(1 << 80)
    assert extremes.quantile(1.0) > 1 << 42


@pytest.mark.parametrize(
    "words",
    [
        ("--seconds", "0"),
        ("--seconds", "nan"),
        ("--strategies", "0"),
        ("--strategies", "65"),
        ("--symbols", "A,,B"),
        ("--symbols", "a b"),
    ],
)
def test_bad_options_are_exit_2(words, capsys) -> None:
    assert main(["demo", *words]) == 2
    assert "is not accepted" in capsys.readouterr().err


def test_the_venue_hangs_up_once_in_a_demo_that_is_long_enough() -> None:
    assert Plan(20, 8, ("A",), 7).cut_at == 10
    assert Plan(9, 8, ("A",), 7).cut_at is None


def test_strategies_leave_room_for_the_feeder(monkeypatch) -> None:
    monkeypatch.setattr("shmfeed.demo.options.processors", lambda: 2)
    assert Plan(20, 8, ("A",), 7).rest == 7
    assert Plan(20, 1, ("A",), 7).rest == 0


def test_the_demo_takes_no_settings_from_outside(monkeypatch) -> None:
    monkeypatch.setenv("WEBSOCKET_PORT", "1")
    with no_settings_from_outside():
        assert "WEBSOCKET_PORT" not in os.environ
    assert os.environ["WEBSOCKET_PORT"] == "1"


def test_without_websockets_it_says_what_to_install(monkeypatch, capsys) -> None:
    for name in [n for n in sys.modules if n.startswith("websockets.")]:
        monkeypatch.delitem(sys.modules, name)  # loaded by other tests
    monkeypatch.setitem(sys.modules, "websockets", None)
    monkeypatch.delitem(sys.modules, "shmfeed.simulator.server", raising=False)
    assert main(["demo", "--seconds", "1"]) == 1
    assert "pip install -e '.[sim]'" in capsys.readouterr().err


def test_the_table_draws_what_the_lines_say() -> None:
    rich = pytest.importorskip("rich.console")
    from shmfeed.demo.metrics import Figures, Reads
    from shmfeed.demo.table import drawn

    reads = Reads(1234, 56.0, 78_901, 2, 0, 0, 48_000.0, 320_000.0)
    figures = Figures(
        3.0, "connected", "live", 77, 120, 100, 8.0, 70.0, 1, 0, 0.5, 12_000.0, reads,
        ((1, reads),), ("strategy 2 (pid 5) ended with code 1",),
    )  # fmt: skip
    console = rich.Console(width=100, record=True, file=io.StringIO())
    console.print(drawn(Plan(20, 2, ("A",), 7), figures))
    text = console.export_text()
    for words in ("pid 77", "20 (8/s)", "48 µs", "320 µs", "78,901", "0.5 s old"):
        assert words in text
    assert "strategy 2 (pid 5) ended with code 1" in text
