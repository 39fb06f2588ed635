"""The pytest plugin for authors of strategies, in this run and in runs of its own."""

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from support.waiting import until

import wealthdata
from shmfeed.errors import BadArgumentError, StaleFeedError, WebSocketConnectionError
from shmfeed.segment.mapping import place
from shmfeed.simulator import verify
from shmfeed.testing import shmfeed_feed, shmfeed_venue
from wealthdata import attachment, choices

__all__ = ["shmfeed_feed", "shmfeed_venue"]  # fixtures of this module

PAGE = Path(__file__).parents[3] / "docs" / "testing.md"


def closes(symbol="BTCUSDT", count=20, **more):
    return wealthdata.get_price(symbol, count=count, frequency="1m", **more)["close"]


@pytest.fixture
def in_a_backtest():
    """Select no feed; that is the selection again once the feed is gone."""
    wealthdata.use(context_only=True)
    yield
    assert attachment.selected_feed() is None
    choices.forget_choices()


def test_wealthdata_reads_the_fixture_s_feed(in_a_backtest, monkeypatch, shmfeed_feed):
    monkeypatch.setenv("WEBSOCKET_ENDPOINT", "wss://real.example/market_data")
    monkeypatch.setenv("SHMFEED_FEED", "off")
    feed = shmfeed_feed(["BTCUSDT", "ETHUSDT"], "1s,1m", seed=3, bars=50)
    assert len(closes(count=50)) == 50
    status = feed.wait(state="connected", bars=200)
    assert status["endpoint"] == feed.venue.url
    assert len(status["streams"]) == 4
    assert os.environ["SHMFEED_FEED"] == feed.name
    frame = wealthdata.get_price("ETHUSDT", count=50, frequency="1m")
    opens = frame.index.as_unit("ms").asi8 - 60_000
    assert verify(3, "ETHUSDT", "1m", (opens, frame.to_numpy().T)) == 0


@pytest.mark.parametrize("name", ["endpoint", "port", "feed", "stop_with_manager"])
def test_the_fixture_s_own_settings_are_refused(shmfeed_feed, name):
    with pytest.raises(BadArgumentError, match=f"the fixture sets {name} itself"):
        shmfeed_feed(**{name: "ws://127.0.0.1:1"})


def test_a_given_venue_serves_a_killed_feeder_s_successor(shmfeed_feed, shmfeed_venue):
    venue = shmfeed_venue(protocol="binance", history=30, speed=60)
    feed = shmfeed_feed("btcusdt", venue=venue)
    pid = feed.status()["pid"]
    feed.kill()
    assert len(closes(on_stale="ignore")) == 20
    until(lambda: feed.status()["pid"] not in (None, pid))
    feed.wait(state="connected", health="live")
    assert closes().iloc[-1] > 0
    with pytest.raises(BadArgumentError, match=r"faults 'mute' do not apply"):
        shmfeed_feed("BTCUSDT", venue=venue, faults="mute")


def test_faults_change_while_a_strategy_runs(shmfeed_feed):
    feed = shmfeed_feed(faults="gap:0.2", speed=60, close_grace=0.1)
    assert feed.wait(gaps=1)["health"] in {"live", "recovering"}
    feed.venue.set_faults("cut,refuse")
    feed.wait(state="reconnecting", health="recovering")
    with pytest.raises(StaleFeedError):
        closes(on_stale="raise")
    feed.venue.set_faults("")
    feed.wait(state="connected", reconnects=1)


def test_a_venue_may_admit_no_client(shmfeed_feed):
    with pytest.raises(WebSocketConnectionError, match="503"):
        shmfeed_feed(faults="refuse:503", max_reconnect_attempts=1, timeout=10)
    feed = shmfeed_feed(faults="refuse:503", wait=False)
    feed.wait(state="connecting")
    feed.venue.set_faults("")
    feed.wait(state="connected")


def test_a_wait_that_times_out_names_what_it_waited_for(shmfeed_feed):
    feed = shmfeed_feed(wait=False)
    with pytest.raises(TimeoutError, match=r"after 0\.05 s waiting for {'gaps': 5};"):
        feed.wait(0.05, gaps=5)
    with pytest.raises(
        BadArgumentError, match="'colour' of a status; one of: feed state"
    ):
        feed.wait(colour="red")


def test_a_test_may_have_two_feeds_and_leaves_none(shmfeed_feed, request):
    one, two = shmfeed_feed(bars=5), shmfeed_feed(bars=5, seed=8)
    assert one.name != two.name
    assert attachment.selected_feed() == two.name
    request.addfinalizer(lambda: check_gone(one, two))  # before the fixture's own
    one.stop()
    one.stop()
    check_gone(one)


def check_gone(*feeds):
    for feed in feeds:
        if feed.manager.get_status()["pid"] is None:
            where = place(feed.name)
            assert not where.segment.exists()
            assert not where.lock.exists()


# An author's files in a run of pytest of their own


def pytest_process(folder, *arguments):
    base = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    return subprocess.Popen(
        [*PYTEST, *arguments, str(folder)],
        cwd=folder,
        env=base,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


PYTEST = (sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider")


def files_on_the_page():
    text = PAGE.read_text()
    return re.findall(r"```python\n# (\S+\.py)\n(.*?)```", text, re.DOTALL)


def test_the_example_on_the_page_of_testing_works(tmp_path):
    blocks = dict(files_on_the_page())
    assert list(blocks) == ["conftest.py", "strategy.py", "test_strategy.py"]
    test = blocks["test_strategy.py"].partition("def test_")[2]
    assert len(test.strip().splitlines()) <= 5
    # The control: a strategy that ignores the age of its bars fails.
    careless = blocks["strategy.py"].replace("max_age=2", "max_age=3600")
    assert careless != blocks["strategy.py"]
    runs = []
    for strategy in (blocks["strategy.py"], careless):
        folder = tmp_path / str(len(runs))
        folder.mkdir()
        for name, text in (blocks | {"strategy.py": strategy}).items():
            (folder / name).write_text(text)
        runs.append(pytest_process(folder))
    with runs[0], runs[1]:
        good, bad = [run.communicate(timeout=50)[0] for run in runs]
    assert (runs[0].returncode, runs[1].returncode) == (0, 1), good + bad
    assert "1 passed" in good
    assert "1 failed" in bad


def test_without_pytest_the_error_says_what_to_install(tmp_path):
    (tmp_path / "pytest.py").write_text("raise ModuleNotFoundError(name=__name__)")
    code = "import shmfeed, wealthdata, shmfeed.simulator; import shmfeed.testing"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=20,
    )
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: shmfeed.testing is a plugin of pytest")
    assert "pip install pytest" in last


def test_the_fixture_adds_no_warnings(shmfeed_feed):
    shmfeed_feed(faults="mute-pongs@1")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        closes()
    assert caught == []
