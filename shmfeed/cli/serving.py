"""The options of a command that serves, and the line that says where it does."""

import argparse
import json
import os
import socket

from shmfeed.cli.output import print_output
from shmfeed.observe.listening import DEFAULT_HOST, url_of


def add_serving_options(
    parser: argparse.ArgumentParser, default_port: int, host: str
) -> None:
    """Add `--port`, `--host` and `--feed`; `host` ends the help of `--host`."""
    add = parser.add_argument
    add(
        "--port",
        type=int,
        default=default_port,
        help=f"port to serve on, 0 for any free one; default: {default_port}",
    )
    add(
        "--host",
        default=DEFAULT_HOST,
        help=f"address to serve on; default: loopback{host}",
    )
    add(
        "--feed",
        action="append",
        metavar="NAME",
        help="feed to show, may be repeated; default: all of this user's",
    )


def print_address(
    name: str, listener: socket.socket, *, as_json: bool, path: str = ""
) -> None:
    """Print where something is served: its URL, or with `as_json` port and pid too."""
    url = f"{url_of(listener)}{path}"
    facts = {"url": url, "port": listener.getsockname()[1], "pid": os.getpid()}
    print_output(json.dumps(facts) if as_json else f"{name} at {url}")
