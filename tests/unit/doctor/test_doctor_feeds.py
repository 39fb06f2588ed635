"""Feeds: held, silent, unreadable, left; and who may touch what is theirs."""

import os
import signal

import pytest
from support.forks import Fork
from support.waiting import until

import shmfeed
from shmfeed.doctor.feeds import check_feeds
from shmfeed.doctor.permissions import check_config, check_directory, check_files
from shmfeed.layout import READY
from shmfeed.segment.mapping import place
from shmfeed.writer import create

CANARY = "s3cr3t-canary"


def hold(name, pipe):
    writer = create(name, 16, 16, 1)
    while True:
        writer.beat()
        os.write(pipe, b"x")
        signal.sigtimedwait([signal.SIGUSR1], 0.1)


@pytest.fixture
def holder(feed_name):
    """A process that holds the feed and beats."""
    told, telling = os.pipe()
    with Fork(hold, feed_name, telling) as one:
        os.close(telling)
        os.read(told, 1)
        yield one
    os.close(told)


def about(feed_name):
    """What is said of this feed: by check."""
    findings = {finding.check: finding for finding in check_feeds()}
    return findings, findings.get(f"feed {feed_name}")


def test_a_feeder_that_beats(holder, feed_name) -> None:
    findings, silent = about(feed_name)
    assert silent is None
    assert feed_name in findings["feeds"].found


def test_a_stopped_feeder_and_its_remedy(holder, feed_name) -> None:
    holder.signal(signal.SIGSTOP)
    with shmfeed.attach(feed_name) as feed:
        until(lambda: not feed.alive())
    _, silent = about(feed_name)
    assert silent.level == "problem"
    assert silent.found == (
        f"is held by process {holder.pid}, which is stopped (SIGSTOP or a debugger)"
    )
    assert f"kill -CONT {holder.pid}" in silent.remedy
    holder.signal(signal.SIGCONT)
    until(lambda: about(feed_name)[1] is None)


@pytest.mark.parametrize("state", ["error", "reconnecting"])
def test_a_feeder_that_gave_up(feed_name, state) -> None:
    with create(feed_name, 16, 16, 1, state=state) as writer:
        _, found = about(feed_name)
        writer.close(unlink=True)
    if state == "error":
        assert found.level == "problem"
        assert f"(pid {os.getpid()}) gave up connecting" in found.found
        assert "--max-reconnect-attempts none" in found.remedy
    else:
        assert found is None


def test_a_stuck_feeder(feed_name) -> None:
    with create(feed_name, 16, 16, 1) as writer:
        writer._words.ints[10] = writer._words.ints[11] = 1  # its signs of life
        _, silent = about(feed_name)
        assert "gives no sign of life" in silent.found
        writer.close(unlink=True)
    assert about(feed_name)[1] is None


def test_another_layout_that_is_held(feed_name) -> None:
    with create(feed_name, 16, 16, 1) as writer:
        writer._words.ints[0] = READY + 1
        _, found = about(feed_name)
        assert found.level == "problem"
        assert "has layout version 2" in found.found
        assert "start it again with this version" in found.remedy
        writer.close()
    _, found = about(feed_name)
    assert found.level == "note"
    assert "no feeder holds it: has layout version 2" in found.found
    assert f"`shmfeed clean --feed {feed_name}`" in found.remedy


def test_what_nobody_holds_is_a_note(feed_name) -> None:
    create(feed_name, 16, 16, 1).close()
    place(feed_name).successor.touch(0o600)
    found = about(feed_name)[0]["leftovers"]
    assert found.level == "note"
    assert "`shmfeed clean`" in found.remedy
    assert "MiB" in found.found
    assert place(feed_name).segment.exists()


def test_a_foreign_file_is_a_problem(feed_name) -> None:
    path = place(feed_name).segment
    path.mkdir()
    found = about(feed_name)[0][str(path)]
    assert found.level == "problem"
    assert "it cannot be opened as a segment: Is a directory" in found.found


class TestPermissions:
    def test_the_feeds_directory(self, tmp_path) -> None:
        path = tmp_path / "feeds"
        assert check_directory(path).level == "ok"
        path.mkdir(mode=0o700)
        assert check_directory(path).level == "ok"
        path.chmod(0o755)
        found = check_directory(path)
        assert "has mode 0755, not 0700" in found.found
        assert found.remedy == f"chmod 700 {path}"
        path.rmdir()
        path.symlink_to("/tmp")
        assert "is no directory" in check_directory(path).found

    def test_another_user_s_directory(self, tmp_path) -> None:
        if os.geteuid():
            pytest.skip("only root can make another user's directory")
        path = tmp_path / "feeds"
        path.mkdir(mode=0o700)
        os.chown(path, 65534, 65534)
        assert "belongs to user 65534" in check_directory(path).found

    def test_files_that_others_may_touch(self, tmp_path) -> None:
        (tmp_path / "a.lock").touch(0o600)
        assert list(check_files(tmp_path)) == []
        (tmp_path / "b.lock").touch()
        (tmp_path / "b.lock").chmod(0o666)
        (found,) = check_files(tmp_path)
        assert (found.level, found.check) == ("problem", str(tmp_path / "b.lock"))
        assert list(check_files(tmp_path / "none")) == []

    def test_a_lock_file_that_a_feeder_refuses(self, tmp_path) -> None:
        path = tmp_path / "a.lock"
        path.touch(0o600)
        (tmp_path / "a.second").hardlink_to(path)
        (found,) = check_files(tmp_path)
        assert (found.level, found.check) == ("problem", str(path))
        assert "it has 2 names (hard links)" in found.found
        (tmp_path / "a.second").unlink()
        path.chmod(0o400)
        assert "its mode is 0400, it must be 0600" in next(check_files(tmp_path)).found
        path.unlink()
        path.mkdir(mode=0o700)
        assert "must be a regular file" in next(check_files(tmp_path)).found

    @pytest.mark.parametrize(("mode", "level"), [(0o600, "ok"), (0o644, "problem")])
    def test_a_token_that_others_may_read(self, tmp_path, mode, level, caplog) -> None:
        path = tmp_path / "a.toml"
        path.write_text(f'csrf_token = "{CANARY}"')
        path.chmod(mode)
        found = check_config(path)
        assert found.level == level
        assert CANARY not in str(found)
        assert level == "ok" or found.remedy == f"chmod 600 {path}"
        assert not caplog.records
        path.write_text("history = 5")
        assert check_config(path).level == "ok"

    def test_a_file_that_cannot_be_read(self, tmp_path) -> None:
        assert "No such file" in check_config(tmp_path / "a.toml").found
        (tmp_path / "a.toml").write_text("=")
        assert "is not well-formed toml" in check_config(tmp_path / "a.toml").found
