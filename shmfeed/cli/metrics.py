"""`shmfeed metrics`: serve the figures of feeds to Prometheus."""

import argparse
import asyncio
import contextlib
import resource
import signal
import socket

from shmfeed.cli.exit_codes import FAILED
from shmfeed.cli.options import add_owner_option, owner_of
from shmfeed.cli.output import print_error, print_output
from shmfeed.cli.serving import add_serving_options, print_address
from shmfeed.observe.listening import listen, resolve
from shmfeed.observe.metrics_server import MOST_CONNECTIONS, MetricsServer
from shmfeed.observe.sample import Sampler

_DESCRIPTION = """\
Serve the figures of feeds at /metrics until Ctrl-C, in the OpenMetrics format, or in
Prometheus' older one if a client accepts no other. Each scrape reads shared memory
once; the feeders are not involved. It needs the package prometheus-client:
pip install prometheus-client.
"""

_EPILOG = """\
examples:
  shmfeed metrics
  shmfeed metrics --port 9600 --feed spot --feed futures
  shmfeed metrics --once | grep stream_ok
"""

DEFAULT_PORT = 9600


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add_serving_options(parser, DEFAULT_PORT, ", which other hosts cannot reach")
    add = parser.add_argument
    add(
        "--once",
        action="store_true",
        help="print the metrics once, in Prometheus' older format, and serve nothing",
    )
    add("--json", action="store_true", help="print url, port and pid as JSON")
    add_owner_option(parser)


def run(args: argparse.Namespace) -> int:
    with Sampler(args.feed, owner=owner_of(args)) as sampler:
        try:
            from shmfeed.observe import exposition  # noqa: PLC0415
        except ModuleNotFoundError as error:
            if error.name != "prometheus_client":
                raise
            print_error(
                "metrics need the package prometheus-client:"
                " pip install prometheus-client"
            )
            return FAILED
        shown = exposition.Exposition(sampler)
        if args.once:
            print_output(shown.text(exposition.PLAIN).decode().removesuffix("\n"))
            return 0
        address = resolve(args.host, args.port)
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        server = MetricsServer(
            shown.text,
            (exposition.OPENMETRICS, exposition.PLAIN),
            names=("localhost", args.host) if address.is_loopback else None,
            most=max(1, min(MOST_CONNECTIONS, descriptors // 2)),
        )
        with listen(address) as listener, contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_serve(server, listener, as_json=args.json))
    return 0


async def _serve(
    server: MetricsServer, listener: socket.socket, *, as_json: bool
) -> None:
    ended, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    await server.start(listener)
    print_address("metrics", listener, as_json=as_json, path="metrics")
    await ended.wait()
