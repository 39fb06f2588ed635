"""`shmfeed run --protocol redis`: a feeder that looks for its leader."""

import signal

import pytest
from support.command_line import end
from support.redis_server import HOST, free_port

pytest_plugins = ["support.command_process"]
pytestmark = pytest.mark.usefixtures("no_settings")


@pytest.mark.parametrize("more", [(), ("--wait",)])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_search_for_a_leader(command, feed_name, number, more):
    pytest.importorskip("redis")
    address = f"redis://{HOST}:{free_port()}"
    options = "--protocol", "redis", "--endpoint", address, "--feed", feed_name
    process = command("run", *options, "--max-reconnect-attempts", "none", *more)
    assert "next attempt in" in process.stderr.readline()
    code, _, errors = end(process, number)
    assert (code, "Traceback" in errors) == (0, False)
