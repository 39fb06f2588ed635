"""A short load, and the load's judges: each has a case that must fail."""

import contextlib
import socket
import threading

import numpy as np
import pytest
from load.__main__ import play
from load.abuse import Abuse, abuses
from load.findings import Findings, drift, judge, take_closes
from load.report import figures, report
from load.size import Size, symbols_of
from load.stage import SEED, Stage
from soak.usage import Sample, Usage

from shmfeed.control.server import ControlServer
from shmfeed.simulator import expected

SMALL = Size(
    seconds=6.0,
    symbols=12,
    timeframes=("1s", "1m"),
    strategies=3,
    connections=0,
    update_every=1.0,
    probe_every=1.0,
)
BEGIN, SECOND = 1_700_000_000_000, 1000
MIB = 1 << 20


@pytest.mark.timeout(300)
def test_strategies_read_what_closes_beside_a_stopped_reader(feed_name, tmp_path):
    with Stage(feed_name, SMALL, tmp_path) as stage:
        found = play(stage, Usage())
    assert found.violations == []
    assert found.closes
    assert all(value > 0 for row in found.closes.values() for value in row)
    assert {one.name for one in found.probes} == {"status", "metrics", "page"}
    assert found.stopped
    assert 0 < found.taken < found.sized
    rows = dict(figures(found, Usage(), SMALL, 6.0))
    assert rows["streams"] == "24: 12 x 1s 1m"


def result_of(size, number, closes, late=10.0):
    rows = []
    for close in closes:
        opened = np.array([close - SECOND])
        symbols = symbols_of(size.names, number)
        prices = [expected(SEED, name, "1s", opened)[3, 0] for name in symbols]
        rows.append((close, close + late, close + late + 1, prices))
    return {"closes": rows, "failures": []}


def results(closes, late=10.0):
    every = result_of(SMALL, 0, closes, late)
    return [every, *(result_of(SMALL, n, closes, late) for n in range(3))]


CLOSES = [BEGIN + number * SECOND for number in range(1, 10)]
SPAN = BEGIN, BEGIN + 10 * SECOND


def judged(told, usage=None, **more):
    found = Findings(taken=1, sized=2, **more)
    take_closes(found, SMALL, told, SPAN)
    judge(found, usage or Usage())
    return found.violations


def test_closes_that_all_had_with_the_venues_values_are_well():
    assert judged(results(CLOSES)) == []


def test_a_strategy_that_missed_a_close_is_a_violation():
    told = results(CLOSES)
    del told[2]["closes"][4]
    assert judged(told) == [f"1 strategies missed the close {CLOSES[4]}"]


def test_closes_at_the_ends_of_a_run_are_left_out():
    told = results([BEGIN - SECOND, *CLOSES, BEGIN + 11 * SECOND])
    del told[2]["closes"][0], told[3]["closes"][-1]
    assert judged(told) == []


def test_a_wrong_price_is_a_violation():
    told = results(CLOSES)
    told[3]["closes"][4][3][0] += 0.01
    [line] = judged(told)
    assert line.startswith("strategy 2 read")
    assert line.endswith(f"at {CLOSES[4]}")


def test_a_failure_of_a_strategy_is_a_violation():
    told = results(CLOSES)
    told[1]["failures"] = ["it broke"]
    assert judged(told) == ["strategy 0: it broke"]


def test_no_close_at_all_is_a_violation():
    assert judged(results([])) == ["no close was seen by all strategies"]


def test_a_feed_in_another_health_is_a_violation():
    healths = {"healths": {"live": 3, "stale": 1}}
    assert judged(results(CLOSES), **healths) == ["the feed was stale"]


def test_reads_that_become_later_are_a_violation():
    early, late = results(CLOSES[:5]), results(CLOSES[5:], late=200.0)
    told = [
        {"closes": a["closes"] + b["closes"], "failures": []}
        for a, b in zip(early, late, strict=True)
    ]
    [line] = judged(told)
    assert line == "the last strategy has read 190 ms later in the last third"
    found = Findings()
    take_closes(found, SMALL, told, SPAN)
    assert drift(found) == 190.0


def test_growth_is_a_violation():
    usage = Usage()
    usage.samples["feeder"] = [
        Sample(60.0 * n, n * MIB // 2, 10 + n) for n in range(30)
    ]
    memory, fds = sorted(judged(results(CLOSES), usage), reverse=True)
    assert "descriptors more" in memory + fds
    assert "MiB more in its last third" in memory + fds


def test_a_client_that_is_not_cut_off_or_starves_others_is_a_violation():
    found = [Abuse("garbage", None, 0.1), Abuse("flood", 1.0, None)]
    assert judged(results(CLOSES), abuses=found) == [
        "control client, garbage: not cut off",
        "control client, flood: another client got no answer",
    ]


# The control socket


def test_each_abusive_client_is_cut_off_and_others_are_answered(tmp_path):
    with ControlServer(tmp_path / "s", lambda _: {}, idle=1.5):
        ends = abuses(tmp_path / "s", 100)
    assert [one.name.split()[0] for one in ends] == ["garbage", "half", "100", "100"]
    for one in ends:
        assert one.cut_seconds is not None, one
        assert one.answer_seconds is not None, one


def test_control_a_server_that_keeps_connections_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr("load.abuse.PATIENCE", 0.3)
    monkeypatch.setattr("load.abuse.ASK_SECONDS", 0.1)
    with socket.socket(socket.AF_UNIX) as listening, contextlib.ExitStack() as opened:
        listening.bind(str(tmp_path / "s"))
        listening.listen(64)

        def keep():
            with contextlib.suppress(OSError):
                while True:
                    opened.enter_context(listening.accept()[0])

        thread = threading.Thread(target=keep)
        thread.start()
        ends = abuses(tmp_path / "s", 5)
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert [(one.cut_seconds, one.answer_seconds) for one in ends] == [(None, None)] * 4


def test_the_report_names_each_figure_and_violation():
    found = Findings(violations=["broken"], abuses=[Abuse("garbage", 0.1, 0.002)])
    text = report(found, figures(found, Usage(), SMALL, 6.0))
    assert "control client: garbage: all closed after 0.1 s; meanwhile" in text
    assert text.endswith("violations: 1\n  broken")
