"""The demo: short runs in processes of their own, and its check of values."""

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
from shmfeed.demo import report
from shmfeed.demo.metrics import DemoMetrics, Histogram, ReadMetrics
from shmfeed.demo.options import MAX_ROWS, DemoOptions
from shmfeed.demo.runner import without_settings
from shmfeed.demo.strategy import MarketCheck
from shmfeed.segment.mapping import place
from shmfeed.simulator import bar, expected
from shmfeed.writer import create

pytest_plugins = ["support.command_process"]
pytestmark = pytest.mark.usefixtures("no_settings")

SEED = 11
START = 1_704_067_200_000  # 2024-01-01
SUMMARY = ("bars in", "reads", "one read", "newest bar", "rows checked", "torn rows")


def test_a_short_demo_prints_progress_and_a_summary(command) -> None:
    process = command("demo", "--seconds", "2", "--strategies", "2", "--symbols", "A,B")
    output, errors = process.communicate(timeout=40)
    assert (process.returncode, errors) == (0, ""), output
    begin, _, summary = output.partition("\n\n")
    assert begin.startswith("venue     ws://127.0.0.1:")
    assert len(re.findall(r"^ +\d s  bars \d+", begin, re.MULTILINE)) == 1
    assert summary.startswith("2 s, 1 feeder, 2 strategies, 2 symbols x 1s 1m\n")
    printed = dict(re.findall(r"^  (\S.*?)  +(\S.*)$", summary, re.MULTILINE))
    assert set(SUMMARY) <= set(printed)
    assert (
        printed["torn rows"] == printed["bars missing"] == printed["reconnects"] == "0"
    )
    assert int(printed["rows checked"].replace(",", "")) > 10_000
    assert int(printed["bars in"].split()[0]) >= 2
    assert summary.endswith("ok: every value that a strategy read is the venue's\n")
    assert not place(f"demo-{process.pid}").lock.exists()


def _started(process: subprocess.Popen[str]) -> tuple[dict, list[int]]:
    """Return the first metrics of a demo with --json, and its pids, feeder first."""
    metrics = json.loads(process.stdout.readline())
    children = sorted(_children(process.pid))
    assert metrics["pid"] in children
    return metrics, sorted(children, key=lambda pid: pid != metrics["pid"])


def _children(pid: int) -> Iterator[int]:
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has just ended
            yield from map(int, path.read_text().split())


def test_a_strategy_that_dies_is_reported_and_fails_the_demo(command) -> None:
    process = command("demo", "--seconds", "2", "--strategies", "2", "--json")
    _, children = _started(process)
    os.kill(children[1], signal.SIGKILL)
    output, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (1, "")
    summary = json.loads(output.splitlines()[-1])["summary"]
    assert summary["ok"] is False
    failure = f"strategy 1 (pid {children[1]}) was killed by signal 9"
    assert summary["failures"] == [failure]
    assert summary["all"]["torn"] == 0


def test_ctrl_c_ends_the_demo_with_a_summary(command) -> None:
    process = command("demo", "--seconds", "60", "--strategies", "1", "--json")
    _started(process)
    began = time.monotonic()
    code, output, errors = end(process, signal.SIGINT)
    assert time.monotonic() - began < 5
    assert (code, errors) == (0, "")
    assert json.loads(output.splitlines()[-1])["summary"]["ok"] is True


def test_a_signal_before_the_start_leaves_nothing(command) -> None:
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
    where.segment.unlink()  # no process was left to do it
    where.lock.unlink()


def test_a_relay_whose_leader_is_not_replaced_fails() -> None:
    options = DemoOptions(20.0, 1, ("A",), SEED, relay=True)
    reads = ReadMetrics(1, 1.0, 1, 0, 0, 0, None, None)
    alone = DemoMetrics(
        elapsed=20.0,
        state="connected",
        health="live",
        pid=1,
        bars=1,
        first_bars=0,
        bars_rate=1.0,
        messages_rate=1.0,
        reconnects=0,
        gaps=0,
        newest_age=0.1,
        delay=None,
        all=reads,
        each=(),
        failures=(),
        leaders=("a:1",),
    )
    assert not report.passed(options, alone)
    told = "FAILED: the standby did not take the place of the leader"
    assert report.verdict(options, alone) == told
    replaced = alone._replace(leaders=("a:1", "b:2"), take_over=3.04)
    assert report.passed(options, replaced)
    lines = {" ".join(line.split()) for line in report.summary(options, replaced)}
    assert "leaders a:1, then b:2 (the leader was killed at 10 s)" in lines
    assert "take-over 3.0 s after the leader's end" in lines


KEYS = [(symbol, timeframe) for symbol in ("A", "B") for timeframe in ("1s", "1m")]


@pytest.fixture
def made_feed(feed_name, request):
    """Return a factory of the feed that a strategy expects, one low price altered."""

    def make(wrong_in: tuple[str, str] | None) -> str:
        for key in KEYS:
            ring = writer.add_stream(*key)
            for number in range(MAX_ROWS):
                made = bar(SEED, *key, START + number * duration(key[1]))
                low = made.low
                if key == wrong_in and number == MAX_ROWS - 7:
                    low -= 0.01
                ring.append(made.open_time, made.open, made.high, low, *made[5:8])
        return feed_name

    with create(feed_name, history=MAX_ROWS, max_streams=8) as writer:
        yield make
        writer.close(unlink=True)
    request.node.funcargs.clear()  # pytest would keep the mapping


@pytest.mark.parametrize(("wrong_in", "torn"), [(None, False), (("B", "1m"), True)])
def test_a_strategy_detects_one_wrong_value(made_feed, child, wrong_in, torn) -> None:
    order = {"number": 1, "feed": made_feed(wrong_in), "seed": SEED, "pause_ratio": 0}
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


def _rows(key, count):
    length = duration(key[1])
    opens = START + np.arange(count) * length
    return opens + length, expected(SEED, *key, opens)


def test_the_check_passes_the_market_s_rows_in_its_window_and_beyond() -> None:
    check = MarketCheck(SEED, 20)
    for key in KEYS:
        closes, values = _rows(key, 50)
        for first in (0, 10, 30, 49, 50):
            assert check.count_wrong(key, closes[first:], values[:, first:]) == 0


def test_the_check_detects_each_kind_of_wrong_row() -> None:
    check, key = MarketCheck(SEED, 20), ("A", "1m")
    closes, values = _rows(key, 20)
    for field in range(5):
        torn = values.copy()
        torn[field, 3] += 0.01
        assert check.count_wrong(key, closes, torn) == 1
    assert check.count_wrong(key, closes, np.full_like(values, np.nan)) == 20
    assert check.count_wrong(("B", "1m"), closes, values) == 20
    late = closes.copy()
    late[7] += 1
    assert check.count_wrong(key, late, values) >= 1
    doubled = np.r_[closes[:10], closes[9:19]]
    assert check.count_wrong(key, doubled, np.c_[values[:, :10], values[:, 9:19]]) == 1


def test_a_missing_bar_is_not_a_wrong_row() -> None:
    closes, values = _rows(("A", "1m"), 20)
    kept = np.arange(20) != 8
    assert (
        MarketCheck(SEED, 20).count_wrong(("A", "1m"), closes[kept], values[:, kept])
        == 0
    )


def test_a_histogram_is_exact_within_its_buckets(rng) -> None:
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


def test_a_histogram_accepts_any_time() -> None:
    extremes = Histogram()
    extremes.add(0)
    assert extremes.quantile(0.5) == 0
    extremes.add(1 << 80)
    assert extremes.quantile(1.0) > 1 << 42


@pytest.mark.parametrize(
    "arguments",
    [
        ("--seconds", "0"),
        ("--seconds", "nan"),
        ("--strategies", "0"),
        ("--strategies", "65"),
        ("--symbols", "A,,B"),
        ("--symbols", "a b"),
    ],
)
def test_a_bad_option_is_exit_code_2(arguments, capsys) -> None:
    assert main(["demo", *arguments]) == 2
    assert "is not accepted" in capsys.readouterr().err


def test_the_venue_drops_the_connection_once_in_a_long_demo() -> None:
    assert DemoOptions(20, 8, ("A",), 7).cut_at == 10
    assert DemoOptions(9, 8, ("A",), 7).cut_at is None


def test_strategies_leave_half_of_the_cpus_to_venue_and_feeder(monkeypatch) -> None:
    monkeypatch.setattr("shmfeed.demo.options.cpu_count", lambda: 2)
    assert DemoOptions(20, 8, ("A",), 7).pause_ratio == 7
    assert DemoOptions(20, 1, ("A",), 7).pause_ratio == 0


def test_the_demo_ignores_settings_of_the_environment(monkeypatch) -> None:
    monkeypatch.setenv("WEBSOCKET_PORT", "1")
    with without_settings():
        assert "WEBSOCKET_PORT" not in os.environ
    assert os.environ["WEBSOCKET_PORT"] == "1"


def test_without_websockets_the_error_says_what_to_install(monkeypatch, capsys) -> None:
    for name in [n for n in sys.modules if n.startswith("websockets.")]:
        monkeypatch.delitem(sys.modules, name)  # loaded by other tests
    monkeypatch.setitem(sys.modules, "websockets", None)
    monkeypatch.delitem(sys.modules, "shmfeed.simulator.server", raising=False)
    assert main(["demo", "--seconds", "1"]) == 1
    assert "pip install websockets" in capsys.readouterr().err


def test_the_table_has_the_metrics() -> None:
    rich = pytest.importorskip("rich.console")
    from shmfeed.demo.metrics import DemoMetrics, ReadMetrics
    from shmfeed.demo.table import draw_table

    reads = ReadMetrics(1234, 56.0, 78_901, 2, 0, 0, 48_000.0, 320_000.0)
    metrics = DemoMetrics(
        3.0, "connected", "live", 77, 120, 100, 8.0, 70.0, 1, 0, 0.5, 12_000.0, reads,
        ((1, reads),), ("strategy 2 (pid 5) exited with code 1",),
    )  # fmt: skip
    console = rich.Console(width=100, record=True, file=io.StringIO())
    console.print(draw_table(DemoOptions(20, 2, ("A",), 7), metrics))
    text = console.export_text()
    for cell in ("pid 77", "20 (8/s)", "48 µs", "320 µs", "78,901", "0.5 s old"):
        assert cell in text
    assert "strategy 2 (pid 5) exited with code 1" in text


def test_a_strategy_process_loads_no_more_than_it_needs(child) -> None:
    process = child("import sys, shmfeed.demo.strategy; print(*sys.modules)")
    output, errors = process.communicate(timeout=20)
    assert errors == ""
    ours = {name for name in output.split() if name.startswith("shmfeed.demo.")}
    assert ours == {
        f"shmfeed.demo.{name}" for name in ("metrics", "options", "strategy")
    }
    others = {"asyncio", "rich", "websockets", "websocket", "shmfeed.manager"}
    assert not others & set(output.split())
