"""`shmfeed simulate`: a local venue in the foreground until a signal ends it."""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from shmfeed.errors import BadArgumentError
from shmfeed.simulator.faults import faults_help
from shmfeed.simulator.log import VenueLog
from shmfeed.simulator.options import (
    EXCESS,
    FASTEST,
    PROTOCOLS,
    ROLL_UPS,
    SEQUENCES,
    TRADE_IDS,
    VenueOptions,
    venue_options,
    venue_url,
)
from shmfeed.simulator.venue import load_server
from shmfeed.text import counted

if TYPE_CHECKING:
    from shmfeed.simulator.server import VenueServer

_BAD_USAGE, _FAILED = 2, 1

FAULTS_HELP = f"""\
faults, comma-separated, each NAME[:ARGUMENT][:RATE][@SECONDS[+SECONDS]]. RATE is a
share, 0 to 1, of the frames (or bars, answers, connections); @ says when the fault
begins and + how long it lasts, in seconds of a connection. --seed decides which frames.
{faults_help()}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to a parser; `run` takes what it parses."""
    add = parser.add_argument
    add("--protocol", choices=PROTOCOLS, help="default: wealthai")
    add("--host", help="address to listen on, default: 127.0.0.1")
    add("--port", type=int, help="default: 0, chosen by the system")
    add("--symbols", metavar="A,B", help="symbols that it carries, default: any")
    add(
        "--resolutions",
        metavar="1m,1h",
        help="timeframes that it carries, default: any",
    )
    add("--speed", metavar="N", help=f"1 (default) to {FASTEST:g} times, or max")
    add("--seed", type=int, help="of the prices, default: 7")
    add("--history", type=int, metavar="N", help="closed bars sent first, default: 0")
    add(
        "--bars",
        type=int,
        metavar="N",
        help="bars of a stream at speed max, default: 10000",
    )
    add(
        "--update-interval",
        type=float,
        metavar="S",
        help="between updates of a forming bar, default: 0.25 s",
    )
    add("--token", help="require this csrf_token, for tests")
    add("--replay", metavar="FILE", help="send a recording instead of made bars")
    add(
        "--record",
        metavar="FILE",
        help="keep what is sent, for --replay and `python -m wealthdata run --replay`",
    )
    add("--faults", metavar="NAME,..", help="see below")
    add("--max-connections", type=int, metavar="N", help="default: 256")
    add("--json", action="store_true", help="print JSON lines")
    _add_form(add)
    _add_rest(add)


def _add_form(add: Callable[..., object]) -> None:
    add(
        "--no-closed-flag",
        action="store_const",
        const=False,
        dest="closed_flag",
        help="omit the closed flag of bars; speed 1 only",
    )
    add("--max-streams", type=int, metavar="N", help="of a connection, default: 1024")
    add(
        "--excess",
        choices=EXCESS,
        help="more streams are refused (default), or close the connection",
    )
    add(
        "--sequence",
        choices=SEQUENCES,
        help="bars carry seq, counted so; default: none",
    )
    add(
        "--timestamps",
        action="store_const",
        const=True,
        help="bars carry ts, the venue's time",
    )
    add(
        "--grid-phase",
        type=int,
        metavar="DAY",
        help="of bars of 3 days, 0 to 2; default: by symbol",
    )
    add(
        "--trade-ids",
        choices=TRADE_IDS,
        help="binance: ids count up by one (dense, default), or have holes",
    )


def _add_rest(add: Callable[..., object]) -> None:
    add(
        "--roll-up",
        choices=ROLL_UPS,
        help="make longer closed bars of these; default: each by itself",
    )
    add(
        "--no-rest",
        action="store_const",
        const=False,
        dest="rest",
        help="binance: answer no REST requests on the port",
    )
    add(
        "--rest-limit",
        type=int,
        metavar="WEIGHT",
        help="binance: of REST requests in a minute, default: the market's",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT.

    Returns:
        The exit code: 0 after a signal, 1 if it cannot listen, 2 for bad options.
    """
    fields = VenueOptions.__struct_fields__
    given = {name: getattr(args, name, None) for name in fields}
    given = {name: value for name, value in given.items() if value is not None}
    try:
        options = venue_options(given)
        server_class = load_server()
        log = VenueLog()
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_serve(options, log, server_class, args.json))
    except BadArgumentError as error:
        return _print_error(error, _BAD_USAGE)
    except (ImportError, OSError) as error:
        return _print_error(error, _FAILED)
    _print_counts(log, args.json)
    return 0


async def _serve(
    options: VenueOptions,
    log: VenueLog,
    server_class: "type[VenueServer]",
    as_json: bool,
) -> None:
    server = server_class(options, log)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError):  # not on POSIX
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


def _print_counts(log: VenueLog, as_json: bool) -> None:
    counts = {
        "connection": log.connections,
        "request": log.requests,
        "frame": log.frames,
    }
    if log.rest_requests:
        counts["REST request"] = log.rest_requests
    if as_json:
        names = {name: f"{name.lower().replace(' ', '_')}s" for name in counts}
        _say(json.dumps({names[name]: count for name, count in counts.items()}))
    else:
        _say(", ".join(counted(count, name) for name, count in counts.items()))


def _say(line: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # the reader of the output is gone
        print(line, flush=True)


def _print_error(error: Exception, exit_code: int) -> int:
    print(f"shmfeed simulate: {error}", file=sys.stderr)
    return exit_code
