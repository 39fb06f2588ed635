"""`shmfeed dashboard`: where it serves, when it refuses to, how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.command_line import Process, end

from shmfeed.cli.main import main
from shmfeed.ringbuf import RingWriter

pytest_plugins = ["support.command_process"]

Start = Callable[..., Process]
TOKEN = "correct-horse-battery"


def started(process: Process) -> Any:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def get(url: str, **headers: str) -> str:
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(answer.read().decode())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_a_signal_with_a_page_open(
    command: Start, feed_name: str, cli_ring: RingWriter, number: signal.Signals
) -> None:
    process = command("dashboard", "--port", 0, "--json", "--feed", feed_name)
    facts = started(process)
    assert facts["pid"] == process.pid
    assert facts["url"] == f"http://127.0.0.1:{facts['port']}/"
    assert ">5.125<" in get(facts["url"])
    with urllib.request.urlopen(f"{facts['url']}events", timeout=30) as events:
        assert events.readline() == b"retry: 1000\n"
        assert end(process, number) == (0, "", "")
        assert b'"all":true' in events.read()  # to its end


def test_two_feeds_and_one_that_is_not_there(
    command: Start, feed_name: str, cli_ring: RingWriter
) -> None:
    other = f"{feed_name}-other"
    options = ("--feed", other, "--feed", feed_name, "--owner", os.geteuid())
    process = command("dashboard", "--port", 0, *options)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("dashboard at http://127.0.0.1:")
    statuses = json.loads(get(f"{line.split()[-1]}api/feeds"))
    found = {status["feed"]: len(status["streams"]) for status in statuses}
    assert found == {other: 0, feed_name: 1}
    assert end(process)[0] == 0


def test_a_token_is_told_to_no_stream(
    command: Start, feed_name: str, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    options = ("--host", "0.0.0.0", "--token-file", file, "--feed", feed_name)
    process = command("dashboard", "--port", 0, "--json", *options)
    port = started(process)["port"]
    url = f"http://127.0.0.1:{port}/"
    with pytest.raises(urllib.error.HTTPError, match="401"):
        get(f"{url}api/feeds")
    assert get(f"{url}api/feeds", Authorization=f"Bearer {TOKEN}")
    code, output, errors = end(process)
    assert code == 0
    assert TOKEN not in output + errors


def test_a_port_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["dashboard", "--port", str(port)]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == (
        f"shmfeed: cannot listen on 127.0.0.1 port {port}: Address already in use;"
        " choose another --port\n"
    )


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--host", "0.0.0.0"], "host 0.0.0.0 can be reached from other hosts"),
        (["--host", "::"], "host :: can be reached from other hosts"),
        (["--host", "a..b"], "host 'a..b' has no address"),
        (["--port", "65536"], "port 65536 is not accepted"),
        (["--port", "-1"], "port -1 is not accepted"),
        (["--feed", "a b"], "'a b'"),
        (["--owner", "no such user"], "--owner is 'no such user'"),
        (["--token-file", "/nowhere"], "--token-file '/nowhere' cannot be read"),
        (["--token-file", ""], "--token-file '' is not a path"),
    ],
)
def test_options_that_are_refused(
    capsys: pytest.CaptureFixture[str], options: list[str], error: str
) -> None:
    assert main(["dashboard", *options]) == 2
    assert error in capsys.readouterr().err


def test_a_short_token(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("secret")
    file.chmod(0o600)
    assert main(["dashboard", "--token-file", str(file)]) == 2
    told = capsys.readouterr().err
    assert "has a token of 6 characters; give one of 16 or more" in told
    assert "secret" not in told


@pytest.mark.parametrize("package", ["starlette", "uvicorn"])
def test_a_package_that_is_missing(package: str) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from shmfeed.cli.main import main; sys.exit(main(['dashboard']))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stdout == ""
    assert f"needs the package {package}: pip install starlette" in done.stderr
