"""Independent servers over wss: a feeder stays live on each, and never reconnects.

Each server is a process that inherits its listening socket, so that no test waits for a
port. The servers ping often, and the feeder too.
"""

import contextlib
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from support.feeding import feeder
from support.loopback import refused_port, within
from support.programs import SERVERS, program, served, served_python

import shmfeed

NODE_MODULES = Path(sys.prefix) / "node" / "node_modules"
BARS = 30
STREAM = ("BTCUSDT", "1s")


def served_node(pem, folder):
    """Run npm's ws, which insists on compression."""
    if not shutil.which("node") or not (NODE_MODULES / "ws").is_dir():
        pytest.skip(
            f"needs node and its package ws: npm i --prefix {sys.prefix}/node ws"
        )
    command = ["node", str(SERVERS / "serve_ws.js")]
    return served(command, pem, folder, NODE_PATH=str(NODE_MODULES))


@contextlib.contextmanager
def feeding(feed_name, port, authority, **more):
    """Run a feeder on a server, and yield the feed once it is connected."""
    pings = {"heartbeat_interval": 0.2, "heartbeat_timeout": 2.0}
    options = {"resolutions": ["1s"], "history": 1000, "connect_timeout": 10.0}
    options |= {"ca_file": authority.file, **pings, **more}
    url = f"wss://localhost:{port}/market_data"
    with feeder(feed_name, url, **options) as one:
        with shmfeed.attach(feed_name, timeout=10) as feed:
            assert within(15, lambda: feed.status()["state"] == "connected"), (
                feed.status()["last_error"]
            )
            yield feed
        assert not one.failure


def check_whole(feed, bars, seconds=15):
    """Wait for so many closed bars, and check that none is missing."""
    ring = feed.ring(*STREAM)
    assert within(seconds, lambda: ring.count >= bars), feed.status()
    opened = ring.snapshot(bars)["open_time"]
    assert set(np.diff(opened)) == {1000}
    status = feed.status()
    assert (status["state"], status["health"]) == ("connected", "live")
    assert status["malformed"] == status["gaps"] == 0
    return status


@pytest.mark.parametrize(
    ("name", "arguments", "compression"),
    [
        ("aiohttp", [], "off"),
        ("aiohttp", [], "deflate"),
        ("uvicorn", ["websockets"], "off"),
        ("uvicorn", ["wsproto"], "deflate"),
        ("hypercorn", [], "off"),
        ("tornado", [], "deflate"),
        ("ws", [], "deflate"),
    ],
)
def test_a_feeder_stays_live_on(
    name, arguments, compression, authority, feed_name, tmp_path
):
    if name == "ws":
        server = served_node(authority.server, tmp_path)
    else:
        server = served_python(name, authority.server, tmp_path, *arguments)
    with server as port:
        with feeding(feed_name, port, authority, compression=compression) as feed:
            status = check_whole(feed, BARS)
            assert status["reconnects"] == 0
            assert status["last_error"] is None


def test_control_a_server_that_insists_on_compression_refuses_without(
    authority, feed_name, tmp_path
):
    with served_node(authority.server, tmp_path) as port:
        url = f"wss://localhost:{port}/"
        with feeder(feed_name, url, ca_file=authority.file, connect_timeout=10.0):
            with shmfeed.attach(feed_name, timeout=10) as feed:
                assert within(10, lambda: "answered 401" in str(feed.status()))


NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
{shutdown}
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/a;
  proxy_temp_path {folder}/b;
  fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d;
  scgi_temp_path {folder}/e;
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {pem};
    ssl_certificate_key {pem};
    location / {{
      proxy_pass http://127.0.0.1:{behind};
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection "upgrade";
    }}
  }}
}}
"""


@pytest.mark.parametrize(
    ("shutdown", "hangs_up"), [("", False), ("worker_shutdown_timeout 300ms;", True)]
)
def test_nginx_in_front_may_reload(shutdown, hangs_up, authority, feed_name, tmp_path):
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        pytest.skip("needs nginx: apt-get install nginx-light")
    port = refused_port()
    with served_python("uvicorn", "-", tmp_path, "websockets", PACE="1") as behind:
        config = tmp_path / "nginx.conf"
        config.write_text(
            NGINX.format(
                folder=tmp_path,
                pem=authority.server,
                port=port,
                behind=behind,
                shutdown=shutdown,
            )
        )
        command = [nginx, "-e", str(tmp_path / "error.log"), "-c", str(config)]
        with program(command, tmp_path / "nginx.log") as process:
            assert within(10, lambda: answers(port))
            with feeding(feed_name, port, authority) as feed:
                ring = feed.ring(*STREAM)
                assert within(10, lambda: ring.count >= 1)
                process.send_signal(signal.SIGHUP)
                if hangs_up:
                    assert within(10, lambda: feed.status()["reconnects"] == 1)
                seen = ring.count
                status = check_whole(feed, seen + 2)
            assert status["reconnects"] == hangs_up
            process.send_signal(signal.SIGTERM)
            process.wait(10)


def answers(port):
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    time.sleep(0.02)
    return False
