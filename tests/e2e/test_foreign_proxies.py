"""Independent proxies: a feeder reaches its venue through them, with a user."""

import contextlib
import shutil
import socket
import sys

import pytest
from support.feeding import feeder
from support.loopback import refused_port, within
from support.programs import program, served_python

import shmfeed

USER, PASSWORD = "me", "hunter2 canary"
STREAM = ("BTCUSDT", "1s")


@pytest.fixture
def password_file(tmp_path):
    path = tmp_path / "password"
    path.write_text(f"{PASSWORD}\n")
    path.chmod(0o600)
    return path


def http(port, *more):
    pytest.importorskip("proxy")
    words = ["-m", "proxy", "--hostname", "127.0.0.1", "--port", str(port)]
    words += ["--num-workers", "1", "--num-acceptors", "1", "--threaded"]
    return [sys.executable, *words, "--basic-auth", f"{USER}:{PASSWORD}", *more]


def https(port, authority):
    pem = str(authority.server)
    return http(port, "--cert-file", pem, "--key-file", pem)


def socks(port):
    found = shutil.which("microsocks")
    if found is None:
        pytest.skip("needs microsocks: apt-get install microsocks")
    words = ["-i", "127.0.0.1", "-p", str(port), "-u", USER, "-P", PASSWORD]
    return [found, *words]


@contextlib.contextmanager
def proxied(scheme, authority, folder):
    """Run a proxy, and yield its place."""
    port = refused_port()
    command = {
        "http": lambda: http(port),
        "https": lambda: https(port, authority),
        "socks5h": lambda: socks(port),
    }[scheme]()
    with program(command, folder / "proxy.log"):
        assert within(15, lambda: answers(port))
        yield f"localhost:{port}"


def answers(port):
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    return False


@pytest.mark.parametrize("scheme", ["http", "https", "socks5h"])
def test_a_feeder_stays_live_behind(
    scheme, authority, feed_name, tmp_path, password_file
):
    with (
        served_python("aiohttp", authority.server, tmp_path) as venue,
        proxied(scheme, authority, tmp_path) as place,
    ):
        url = f"wss://localhost:{venue}/market_data"
        options = {
            "resolutions": ["1s"],
            "ca_file": authority.file,
            "connect_timeout": 10.0,
            "proxy": f"{scheme}://{USER}@{place}",
            "proxy_password_file": password_file,
        }
        with feeder(feed_name, url, **options) as one:
            with shmfeed.attach(feed_name, timeout=10) as feed:
                ring = feed.ring(*STREAM)
                assert within(15, lambda: ring.count >= 10), feed.status()
                status = feed.status()
                assert (status["state"], status["reconnects"]) == ("connected", 0)
            assert not one.failure
        # Control: with a wrong password it does not get through.
        password_file.write_text("wrong")
        with feeder(feed_name, url, **options):
            with shmfeed.attach(feed_name, timeout=10) as feed:
                assert within(10, lambda: feed.status()["last_error"])
                said = feed.status()["last_error"]
    assert f"proxy {scheme}://{place}: the proxy refuses the user or" in said
    assert PASSWORD not in said
