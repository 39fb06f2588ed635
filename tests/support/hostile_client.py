"""A client in a process of its own, controlled by lines of JSON.

For each {"url", ...settings} it runs a session until a connection is lost, a bar has
come, or a minute is over, and prints one line: what it saw, how many seconds of a CPU
it worked, and by how many bytes its memory grew at the worst moment. It logs
everything there is, and shows every object that it has,
so that a secret which can get out does.
"""

import contextlib
import faulthandler
import json
import logging
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

import websocket

from shmfeed.codecs import get_codec
from shmfeed.codecs.interface import BarEvent
from shmfeed.history.interface import HistoryError, HistoryRequest
from shmfeed.history.registry import make_source
from shmfeed.settings.loading import load
from shmfeed.wire.events import ConnectionLost, Received, Subscribed
from shmfeed.wire.session import Session

log = logging.getLogger("hostile")
STREAMS = (("BTCUSDT", "1m"),)
PATIENT = {"connect_timeout": 30.0, "ack_timeout": 30.0, "reconnect_delay_base": 30.0}
SECONDS = 60.0  # a bound for what hangs: on a busy machine all takes its time


def memory(line):
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{line}:")[1].split()[0]) << 10


def forget_the_peak():
    Path("/proc/self/clear_refs").write_text("5")


def by_session(url, **options):
    settings = load({"endpoint": url, **PATIENT, **options}, {})
    codec = get_codec("wealthai", settings.market_type, settings.csrf_token)
    session = Session(codec, settings, codec.endpoints([url], []), STREAMS, tick=0.05)
    kinds, oversized = Counter(), 0
    begun = time.monotonic()
    with contextlib.closing(session.batches()) as batches:
        for batch in batches:
            for event in batch:
                match event:
                    case Received(events):
                        kinds.update(type(event).__name__ for event in events)
                    case Subscribed():
                        kinds["Subscribed"] += 1
                    case ConnectionLost(is_oversized=is_oversized):
                        oversized += is_oversized
            if kinds[BarEvent.__name__] or session.status.last_error:
                break
            if time.monotonic() - begun > SECONDS:
                break
            show(settings, codec, session)
    error = session.status.last_error
    return {"kinds": kinds, "error": error, "oversized": oversized}


def by_the_library(url, **_):
    """Connect with websocket-client itself, as the control."""
    with contextlib.suppress(Exception):
        library = websocket.create_connection(url, timeout=1, http_no_proxy=["*"])
        library.recv()
    return {}


def by_rest(url, **options):
    """Ask a REST service for bars."""
    settings = load(
        {"endpoint": "ws://127.0.0.1:1/", "rest_endpoint": url, **options}, {}
    )
    codec = get_codec("binance", settings.market_type, settings.csrf_token)
    error = ""
    with contextlib.closing(make_source(settings, codec)) as source:
        try:
            source.fetch(HistoryRequest(STREAMS[0], 0, 600_000))
        except HistoryError as failure:
            error = str(failure)
            log.exception("no history")
        show(settings, source)
    return {"error": error}


def show(*things):
    """Log the project's objects, and those in them."""
    for thing in things:
        log.debug("%r %s", thing, thing)
        inside = getattr(thing, "__dict__", {}).values()
        lists = (one for some in inside if isinstance(some, list) for one in some[:9])
        show(*(one for one in (*inside, *lists) if is_ours(one)))


def is_ours(thing):
    # An error that has not left the session yet has a server's words as they came.
    ours = type(thing).__module__.startswith("shmfeed")
    return ours and not isinstance(thing, Exception)


def plant(url, **_):
    """Print a secret, as the control of the search for them."""
    log.debug("here it is: %s", url)
    return {}


WAYS = {
    "session": by_session,
    "rest": by_rest,
    "library": by_the_library,
    "plant": plant,
}


def main():
    faulthandler.enable()
    logging.basicConfig(level=logging.DEBUG)
    for line in sys.stdin:
        order = json.loads(line)
        forget_the_peak()
        before, worked = memory("VmRSS"), time.process_time()
        try:
            result = WAYS[order.pop("way")](**order)
        except Exception:  # noqa: BLE001 - to be printed with all that it shows
            traceback.print_exc()
            result = {"raised": True}
        result["work"] = time.process_time() - worked
        result["grown"] = memory("VmHWM") - before
        print(json.dumps(result), flush=True)
    faulthandler.dump_traceback()


if __name__ == "__main__":
    main()
