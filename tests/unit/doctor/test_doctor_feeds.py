"""Feeds that are held, silent, unreadable or left behind."""

import os
import signal

import pytest
from support.forks import Fork
from support.waiting import until

import shmfeed
from shmfeed.doctor.feeds import check_feeds, check_identity
from shmfeed.identity import make_identity
from shmfeed.layout import H_ALIVE, H_READY, H_TICK, READY
from shmfeed.segment.mapping import place
from shmfeed.segment.removal import clean_all
from shmfeed.settings import loading
from shmfeed.writer import create


def hold_and_beat(name, pipe):
    writer = create(name, 16, 16, 1)
    while True:
        writer.beat()
        os.write(pipe, b"x")
        signal.sigtimedwait([signal.SIGUSR1], 0.1)


@pytest.fixture
def holder(feed_name):
    """Yield a process that holds the feed and sends heartbeats."""
    reads, writes = os.pipe()
    with Fork(hold_and_beat, feed_name, writes) as process:
        os.close(writes)
        os.read(reads, 1)
        yield process
    os.close(reads)


def findings_about(feed_name):
    """Return all findings by check, and the one about this feed."""
    findings = {finding.check: finding for finding in check_feeds()}
    return findings, findings.get(f"feed {feed_name}")


def test_a_feeder_with_a_heartbeat_is_ok(holder, feed_name) -> None:
    findings, silent = findings_about(feed_name)
    assert silent is None
    assert feed_name in findings["feeds"].found


def test_a_stopped_feeder_is_a_problem_with_a_remedy(holder, feed_name) -> None:
    holder.signal(signal.SIGSTOP)
    with shmfeed.attach(feed_name) as feed:
        until(lambda: not feed.alive())
    _, silent = findings_about(feed_name)
    assert silent.level == "problem"
    assert silent.found == (
        f"is held by process {holder.pid}, which is stopped (SIGSTOP or a debugger)"
    )
    assert f"kill -CONT {holder.pid}" in silent.remedy
    holder.signal(signal.SIGCONT)
    until(lambda: findings_about(feed_name)[1] is None)


@pytest.mark.parametrize("state", ["error", "reconnecting"])
def test_a_feeder_in_error_is_a_problem(feed_name, state) -> None:
    with create(feed_name, 16, 16, 1, state=state) as writer:
        _, found = findings_about(feed_name)
        writer.close(unlink=True)
    if state == "error":
        assert found.level == "problem"
        assert f"(pid {os.getpid()}) cannot connect" in found.found
        assert "comes back by itself" in found.remedy
    else:
        assert found is None


def test_a_stuck_feeder_is_a_problem(feed_name) -> None:
    with create(feed_name, 16, 16, 1) as writer:
        writer._words.ints[H_ALIVE] = writer._words.ints[H_TICK] = 1
        _, silent = findings_about(feed_name)
        assert "has sent no heartbeat for 2 s" in silent.found
        assert f"kill -9 {os.getpid()} and start" in silent.remedy
        writer.close(unlink=True)
    assert findings_about(feed_name)[1] is None


def test_a_stuck_feeder_of_unknown_pid_has_a_remedy(feed_name, monkeypatch) -> None:
    def clean_all_without_pids(remove):
        return [one._replace(pid=None) for one in clean_all(remove)]

    monkeypatch.setattr("shmfeed.doctor.feeds.clean_all", clean_all_without_pids)
    with create(feed_name, 16, 16, 1) as writer:
        writer._words.ints[H_ALIVE] = writer._words.ints[H_TICK] = 1
        _, silent = findings_about(feed_name)
        writer.close(unlink=True)
    assert f"`fuser -v {place(feed_name).segment}`" in silent.remedy


def test_a_segment_of_another_layout(feed_name) -> None:
    with create(feed_name, 16, 16, 1) as writer:
        writer._words.ints[H_READY] = READY + 1
        _, found = findings_about(feed_name)
        assert found.level == "problem"
        assert "has layout version 3" in found.found
        assert "start it again with this version" in found.remedy
        writer.close()
    _, found = findings_about(feed_name)
    assert found.level == "note"
    assert "no feeder holds it: has layout version 3" in found.found
    assert f"`shmfeed clean --feed {feed_name} --force`" in found.remedy


def test_leftovers_are_a_note(feed_name) -> None:
    create(feed_name, 16, 16, 1).close()
    place(feed_name).successor.touch(0o600)
    found = findings_about(feed_name)[0]["leftovers"]
    assert found.level == "note"
    assert "`shmfeed clean --force`" in found.remedy
    assert "MiB" in found.found
    assert place(feed_name).segment.exists()


def test_a_foreign_file_is_a_problem(feed_name) -> None:
    path = place(feed_name).segment
    path.mkdir()
    found = findings_about(feed_name)[0][str(path)]
    assert found.level == "problem"
    assert "it cannot be opened as a segment: Is a directory" in found.found


USDM = make_identity("binance", "usdm", ["fstream.binance.com"])


@pytest.mark.parametrize(
    ("given", "level"),
    [
        ({}, None),  # the settings name no venue
        ({"protocol": "binance", "market_type": "usdm"}, "ok"),
        ({"protocol": "binance", "market_type": "spot"}, "problem"),
        ({"endpoint": "wss://fstream.binance.com"}, "problem"),
    ],
)
def test_another_identity_is_a_problem(feed_name, given, level) -> None:
    create(feed_name, 16, 16, 1, identity=USDM).close()
    found = list(check_identity(loading.load({"feed": feed_name, **given}, {})))
    assert [one.level for one in found] == ([level] if level else [])
    if level == "problem":
        assert f"is of {USDM}, and these settings are of" in found[0].found
        assert "--replace" in found[0].remedy
    create(feed_name, 16, 16, 1).close(unlink=True)


def test_a_feed_without_bars_has_any_identity(feed_name) -> None:
    settings = loading.load({"feed": feed_name, "venue": "x"}, {})
    (found,) = check_identity(settings)
    assert (found.level, found.check) == ("ok", f"identity of feed {feed_name}")
