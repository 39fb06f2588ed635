"""`shmfeed run`: a feeder in the foreground, until a signal ends it.

What happens to a foreground feeder's connection, said on standard error.

Whoever observes a feed reads its segment; so does this thread, in the feeder's process.
"""

import argparse
import os
import threading
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from shmfeed.cli.output import complain, say
from shmfeed.cli.settings import add_settings
from shmfeed.codecs import get_codec
from shmfeed.errors import BadArgumentError, FeedNotFoundError
from shmfeed.feed import Feed, attach
from shmfeed.feeder import main
from shmfeed.feeder.feeder import Feeder
from shmfeed.settings import loading
from shmfeed.settings.endpoint import redact
from shmfeed.settings.model import Settings
from shmfeed.text import printable

_LOOK_SECONDS = 0.1


class Watch:
    """A context manager around a feeder's `run`: it tells each change of state."""

    def __init__(self, feed: str) -> None:
        self._feed = attach(feed)
        self._ended = threading.Event()
        self._seen: tuple[Any, ...] = ()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._feed.close()

    def _run(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            with suppress(FeedNotFoundError):
                self._look(self._feed)

    def _look(self, feed: Feed) -> None:
        facts = feed.connection()
        state, error = facts["state"], facts.get("last_error")
        seen = (state, error)
        if seen == self._seen:
            return
        before, self._seen = self._seen, seen
        if error and error not in before[1:]:
            _say(error)
        if state == "connected":
            _say(f"connected to {facts.get('endpoint')}")
        elif state == "error":
            _say(
                f"gave up after {facts.get('attempts')} attempts in a row; start it"
                " again, or with --max-reconnect-attempts none, which tries for ever;"
                " its bars stay readable meanwhile; Ctrl-C or SIGTERM ends it"
            )


def _say(words: str) -> None:
    complain(printable(words))


_DESCRIPTION = """\
Feed one feed: connect to a venue, subscribe, and write its bars into shared memory,
where any number of strategies read them. SIGTERM or Ctrl-C ends it; the segment stays
readable, and the next feeder goes on with it, unless --unlink removes it.

A setting is taken from the options, else the environment (WEBSOCKET_ENDPOINT,
WEBSOCKET_SYMBOLS, .., SHMFEED_<SETTING>), else --config, else its default. The token
comes from WEBSOCKET_CSRF_TOKEN or the file only: other users can read arguments.
"""

_EPILOG = """\
examples:
  shmfeed run --endpoint ws://127.0.0.1:18000 --symbols BTCUSDT --resolutions 1s,1m
  shmfeed run --protocol binance --symbols BTCUSDT,ETHUSDT --resolutions 1m,1h
  shmfeed run --config feed.yaml --feed spot
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.usage = "shmfeed run [--config FILE] [--unlink] [--SETTING VALUE ..]"
    parser.add_argument(
        "--unlink", action="store_true", help="remove the segment at the end"
    )
    add_settings(parser)


def run(args: argparse.Namespace) -> int:
    arguments = loading.from_options(vars(args))
    settings = loading.load(arguments | {loading.CONFIG_FILE: args.config})
    if not settings.streams:
        raise BadArgumentError(
            "there is nothing to subscribe: give --symbols and --resolutions"
        )
    main.set_up_logging(settings)
    feeder = Feeder(settings)
    main.stop_on_signals(feeder, args.unlink)
    say(_beginning(settings))
    with Watch(settings.feed):
        return main.run(feeder)


def _beginning(settings: Settings) -> str:
    codec = get_codec(settings.protocol, settings.market_type)
    places = codec.endpoints(settings.endpoint, settings.port)
    where = ", ".join(map(redact, places))
    symbols, resolutions = " ".join(settings.symbols), " ".join(settings.resolutions)
    count = len(settings.streams)
    return (
        f"feed {settings.feed}: pid {os.getpid()}, from {where}, {count}"
        f" stream{'' if count == 1 else 's'}: {symbols} x {resolutions}"
    )
