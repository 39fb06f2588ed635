"""Autobahn's fuzzing server, a Python 2 program, and the verdicts of its cases."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

from autobahn import agent
from support import loopback

from shmfeed.wire.connection import ConnectionLostError

ROOT = Path(__file__).parents[2]
PLACE = ROOT / ".venv/autobahn"  # made by `make autobahn`
AGENT = "shmfeed"
COMPRESSED = ["12.*", "13.*"]  # compression, which the feeder offers on request alone
RUN = "import sys; from autobahntestsuite.wstest import run; run()"
START_SECONDS = 30.0


class Verdict(NamedTuple):
    case: str
    behavior: str  # OK, NON-STRICT, INFORMATIONAL, FAILED, ..
    ended: str


def is_installed() -> bool:
    return (PLACE / "python2").exists()


@contextmanager
def fuzzing_server(folder: Path, without: list[str]) -> Iterator[str]:
    """Serve all client cases but those `without`, and yield the server's URL."""
    url = f"ws://127.0.0.1:{loopback.refused_port()}"
    spec = folder / "spec.json"
    spec.write_text(
        json.dumps(
            {
                "url": url,
                "outdir": str(folder / "reports"),
                "cases": ["*"],
                "exclude-cases": COMPRESSED + without,
                "exclude-agent-cases": {},
            }
        )
    )
    command = [PLACE / "python2", "-c", RUN, "-m", "fuzzingserver", "-s", spec]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            command,
            cwd=folder,
            env={"PYTHONPATH": str(PLACE), "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_for(url, server)
            yield url
        finally:
            server.kill()
            server.wait()


def run(url: str) -> Iterator[Verdict]:
    """Run each case of the server, and yield its verdict."""
    for number in range(1, int(agent.ask(f"{url}/getCaseCount")) + 1):
        query = urlencode({"case": number, "agent": AGENT})
        ended = agent.echo(f"{url}/runCase?{query}")
        about = json.loads(agent.ask(f"{url}/getCaseInfo?{query}"))
        status = json.loads(agent.ask(f"{url}/getCaseStatus?{query}"))
        yield Verdict(about["id"], status["behavior"], ended)


def _wait_for(url: str, server: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < end:
        try:
            agent.ask(f"{url}/getCaseCount")
        except ConnectionLostError:
            time.sleep(0.05)
        else:
            return
    sys.exit("Autobahn's server does not serve; see its log")
