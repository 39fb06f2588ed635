"""`shmfeed simulate`: the local venue in the foreground, until a signal ends it."""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from typing import TYPE_CHECKING

from shmfeed.errors import BadArgumentError
from shmfeed.simulator.faults import fault_lines
from shmfeed.simulator.log import Record
from shmfeed.simulator.options import FASTEST, PROTOCOLS, VenueOptions, venue_options
from shmfeed.simulator.venue import load_server, venue_url

if TYPE_CHECKING:
    from shmfeed.simulator.server import VenueServer

_BAD_USAGE, _FAILED = 2, 1

FAULTS_HELP = f"""\
faults, comma-separated, each NAME[:ARGUMENT][:RATE][@SECONDS[+SECONDS]]: a share from
0 to 1 of the frames (bars, answers, connections), and when it begins and how long it
lasts, in seconds of a connection. Which frames follows from --seed.
{fault_lines()}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command; `run` takes what the parser makes of them."""
    add = parser.add_argument
    add("--protocol", choices=PROTOCOLS, help="default: wealthai")
    add("--host", help="address to listen on, default: 127.0.0.1")
    add("--port", type=int, help="default: 0, chosen by the system")
    add("--symbols", metavar="A,B", help="what the venue knows; default: any symbol")
    add("--resolutions", metavar="1m,1h", help="default: any timeframe")
    add("--speed", metavar="N", help=f"1 (default) to {FASTEST:g} times, or max")
    add("--seed", type=int, help="of the prices, default: 7")
    add("--history", type=int, metavar="N", help="closed bars first, default: 0")
    add("--bars", type=int, metavar="N", help="of a stream at max, default: 10000")
    add("--update-interval", type=float, metavar="S", help="seconds, default: 0.25")
    add("--token", help="a csrf_token to insist on, for tests")
    add("--replay", metavar="FILE", help="send a recording in place of made bars")
    add("--faults", metavar="NAME,..", help="what goes wrong; see below")
    add("--max-connections", type=int, metavar="N", help="default: 256")
    add(
        "--no-closed-flag",
        action="store_const",
        const=False,
        dest="closed_flag",
        help="bars do not say that they are closed; speed 1 only",
    )
    add("--json", action="store_true", help="say where it listens in JSON")


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT: 0; 1 when it cannot listen, 2 for bad options."""
    names = VenueOptions.__struct_fields__
    given = {name: getattr(args, name, None) for name in names}
    given = {name: value for name, value in given.items() if value is not None}
    try:
        options = venue_options(given)
        server_class = load_server()
        record = Record()
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_serve(options, record, server_class, args.json))
    except BadArgumentError as error:
        return _complain(error, _BAD_USAGE)
    except (ImportError, OSError) as error:
        return _complain(error, _FAILED)
    _say_counts(record, args.json)
    return 0


async def _serve(
    options: VenueOptions,
    record: Record,
    server_class: "type[VenueServer]",
    as_json: bool,
) -> None:
    server = server_class(options, record)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError):  # elsewhere than on POSIX
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
    port = await server.start()
    url = venue_url(options, port)
    if as_json:
        _say(json.dumps({"url": url, "port": port, "pid": os.getpid()}))
    else:
        _say(f"listening on {url}")
    await ended.wait()
    await server.stop()


def _say_counts(record: Record, as_json: bool) -> None:
    counts = {
        "connections": record.total,
        "requests": record.requests,
        "frames": record.frames,
    }
    if as_json:
        _say(json.dumps(counts))
    else:
        _say(", ".join(f"{count} {name}" for name, count in counts.items()))


def _say(line: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # whoever started us reads no more
        print(line, flush=True)


def _complain(error: Exception, status: int) -> int:
    print(f"shmfeed simulate: {error}", file=sys.stderr)
    return status
