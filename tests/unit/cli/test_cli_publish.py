"""`shmfeed publish`: options, refusals, and a feed that reaches a real Redis."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from support.command_line import end
from support.feeding import feeder
from support.redis_server import running
from support.waiting import until

import shmfeed
from shmfeed.cli.main import main
from shmfeed.segment.mapping import place
from shmfeed.simulator import Venue

pytest_plugins = ["support.command_process"]
pytestmark = pytest.mark.usefixtures("no_settings")

PASSWORD = "hunter2hunter2"


def run(capsys, *arguments: str) -> tuple[int, str]:
    try:
        code = main(["publish", *arguments])
    except SystemExit as ended:
        code = int(ended.code or 0)
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "publish_to is not set; give --to, such as --to redis://host:6379/0"),
        (("--to", "http://h"), "its scheme is not redis:// or rediss://"),
        (("--to", f"redis://:{PASSWORD}@h/0"), "it holds a password, which belongs in"),
        (("--to", "redis://h/0"), "would send plain text beyond this host"),
        (("--to", "redis://127.0.0.1", "--as", "a b"), "'a b'"),
        (("--to", "redis://127.0.0.1", "--as", ""), "''"),
        (("--redis-password", PASSWORD), "a password is not accepted here"),
        ((f"--password={PASSWORD}",), "set SHMFEED_REDIS_PASSWORD"),
        (("--symbols", "A"), "unrecognized arguments: --symbols"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(capsys, arguments, words) -> None:
    code, errors = run(capsys, *arguments)
    assert code == 2
    assert words in errors
    assert PASSWORD not in errors
    assert "Traceback" not in errors


@pytest.fixture
def server(tmp_path: Path):
    with running(tmp_path, "--requirepass", PASSWORD) as server:
        yield server


@pytest.fixture
def venue():
    with Venue(speed=None, symbols=["BTCUSDT"]) as venue:
        yield venue


def relay_of(feed_name: str):
    with shmfeed.attach(feed_name, timeout=20) as feed:
        return feed.status()["relay"] or {}


def await_leader(feed_name: str, other_than: int = 0) -> dict[str, Any]:
    """Return the relay of a feed that is led, by another process than this one."""
    found: list[dict[str, Any]] = []

    def is_led() -> bool:
        relay = relay_of(feed_name)
        if relay.get("role") == "leader" and relay["error"] is None:
            found.extend([relay] * (pid_of(relay) != other_than))
        return bool(found)

    until(is_led, 40, what="a leader")
    return found[0]


def pid_of(relay: dict[str, Any]) -> int:
    """Return the pid of the leader's publisher."""
    return int(relay["leader"].rpartition(":")[2])


def shown_by(pid: int) -> str:
    """Return all that other users may read of a process."""
    found = [Path(f"/proc/{pid}/cmdline"), Path(f"/proc/{pid}/environ")]
    return "".join(path.read_text(errors="replace") for path in found)


def test_a_feed_is_published_until_a_signal(
    command, server, venue, feed_name, tmp_path
) -> None:
    path = tmp_path / "password"
    path.write_text(f"{PASSWORD}\n")
    path.chmod(0o600)
    url = f"redis://127.0.0.1:{server.port}/0"
    options = ("--to", url, "--redis-password-file", path, "--as", "other")
    with feeder(feed_name, venue):
        process = command("publish", "--feed", feed_name, *options)
        relay = await_leader(feed_name)
        assert pid_of(relay) == process.pid
        assert relay["epoch"] > 1_700_000_000_000
        rings = "{shmfeed:other}:ring*"
        until(lambda: server.do("KEYS", rings, password=PASSWORD))
        assert PASSWORD not in shown_by(process.pid)
        code, _, errors = end(process, signal.SIGTERM)
        assert code == 0
        assert "this publisher leads 'other' with epoch" in errors
        assert PASSWORD not in errors
        until(lambda: not relay_of(feed_name), what="the end of the relay's status")
        # It has resigned: another one need not wait.
        assert b"{shmfeed:other}:leader" not in server.do(
            "KEYS", "*", password=PASSWORD
        )


def test_a_feeder_starts_supervises_and_ends_its_publisher(
    command, server, venue, feed_name
) -> None:
    url = f"redis://127.0.0.1:{server.port}/0"
    options = {"--endpoint": venue.url, "--symbols": "BTCUSDT", "--resolutions": "1m"}
    words = [word for pair in options.items() for word in pair]
    environ = {**os.environ, "SHMFEED_REDIS_PASSWORD": PASSWORD}
    process = command(
        *("run", "--feed", feed_name, "--publish-to", url, *words),
        *("--unlink",),
        env=environ,
    )
    until(lambda: place(feed_name).segment.exists(), what="the feed")
    first = pid_of(await_leader(feed_name))
    assert first != process.pid
    assert PASSWORD not in shown_by(first)
    os.kill(first, signal.SIGKILL)
    second = pid_of(await_leader(feed_name, first))
    code, _, errors = end(process, signal.SIGTERM)
    assert code == 0
    assert f"feed {feed_name}: publish_to ended with code -9" in errors
    assert PASSWORD not in errors
    until(lambda: not Path(f"/proc/{second}").exists(), what="the publisher's end")
