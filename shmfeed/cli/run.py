"""`shmfeed run`: run a feeder in the foreground, until a signal stops it."""

import argparse
import os
from collections.abc import Callable
from contextlib import suppress

from shmfeed.bar import StreamKey
from shmfeed.cli.exit_codes import FAILED, GAVE_UP
from shmfeed.cli.output import format_time, print_notice, print_output
from shmfeed.cli.progress import ProgressLine, progress_bar
from shmfeed.cli.setting_options import add_setting_options
from shmfeed.codecs import get_codec
from shmfeed.control.platform import check_feeder_platform
from shmfeed.errors import (
    BadArgumentError,
    SegmentError,
    WebSocketConnectionError,
)
from shmfeed.feeder.feed_history import ShowWarmup
from shmfeed.feeder.feeder import Feeder
from shmfeed.feeder.logs import EarlyLines, FeederLog
from shmfeed.feeder.main import run as run_feeder
from shmfeed.feeder.rest_check import RestFindings
from shmfeed.feeder.signals import FeederSignals
from shmfeed.feeder.standby import take_when_free
from shmfeed.feeder.takeover import Follower, find_running
from shmfeed.feeder.venue_check import VenueCheck, check_venue
from shmfeed.feeder.warmup import WarmupProgress
from shmfeed.segment.mapping import place
from shmfeed.segment.removal import remove_unheld
from shmfeed.settings import loading
from shmfeed.settings.endpoint import redact
from shmfeed.settings.model import Settings
from shmfeed.text import counted, printable
from shmfeed.wire.events import Streams

_DESCRIPTION = """\
Run the feeder of one feed: connect to a venue, subscribe, and write the bars into
shared memory, where any number of strategies read them. SIGTERM or Ctrl-C stops the
feeder. The segment stays readable, and the next feeder reuses it, unless --unlink
removes it.

A setting comes from the options, else the environment (WEBSOCKET_ENDPOINT,
WEBSOCKET_SYMBOLS, .., SHMFEED_<SETTING>), else --config, else its default. The token
comes from WEBSOCKET_CSRF_TOKEN or the file only: other users can read arguments.
"""

_EPILOG = """\
examples:
  shmfeed run --endpoint ws://127.0.0.1:18000 --symbols BTCUSDT --resolutions 1s,1m
  shmfeed run --protocol binance --market-type spot --symbols BTCUSDT --resolutions 1m
  shmfeed run --config feed.yaml --feed spot
  shmfeed run --config feed.yaml --check
  shmfeed run --config feed.yaml --wait
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.usage = (
        "shmfeed run [--config FILE] [--check | --wait | --takeover] [--unlink]\n"
        "                   [--replace] [--SETTING VALUE ..]"
    )
    parser.add_argument(
        "--unlink", action="store_true", help="remove the segment when the feeder stops"
    )
    parser.add_argument(
        "--replace",
        action="store_true",
        help="drop stored bars of another identity (protocol, market, venue)",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--wait",
        action="store_true",
        help="stand by while another feeder has the feed, and take it once it is free",
    )
    how.add_argument(
        "--takeover",
        action="store_true",
        help="connect beside the feeder that runs, then take its place",
    )
    how.add_argument(
        "--check",
        action="store_true",
        help="dial, subscribe, wait for a bar of each stream, compare it with REST,"
        " print the findings, and write nothing",
    )
    add_setting_options(parser)


def run(args: argparse.Namespace) -> int:
    arguments = loading.from_options(vars(args)) | {loading.CONFIG_FILE: args.config}
    with EarlyLines():
        settings = loading.load(arguments)
        _check_streams(settings, args.check)
        feeder_log = None if args.check else FeederLog(settings)
    if args.check:
        found = check_venue(settings)
        print_output(format_check(found))
        return 0 if found.is_good else FAILED

    check_feeder_platform()
    signals = FeederSignals(args.unlink)

    def make(beside: Streams | None = None) -> Feeder:
        return Feeder(
            settings,
            replace=args.replace,
            source=lambda: loading.load(arguments),
            feeder_log=feeder_log,
            beside=beside,
            pause=signals.wait,
        )

    feeder = _start(args, make, settings, signals)
    if feeder is None:
        return 0
    signals.give_to(feeder)
    return _run_to_its_end(feeder, settings, unlink=args.unlink)


def _check_streams(settings: Settings, checks_venue: bool) -> None:
    if not settings.streams and not settings.follows_relay:
        raise BadArgumentError(
            "no streams to subscribe; give --symbols and --resolutions"
        )
    if settings.follows_relay and checks_venue:
        raise BadArgumentError(
            "--check dials a venue, and protocol redis has none; `shmfeed doctor`"
            " checks Redis"
        )


def _start(
    args: argparse.Namespace,
    make: Callable[[Streams | None], Feeder],
    settings: Settings,
    signals: FeederSignals,
) -> Feeder | None:
    """Return the feeder that has the feed; None if a signal came first."""
    try:
        if args.takeover:
            return _take_over(make, settings, signals)
        if args.wait:
            return take_when_free(lambda: make(None), settings, signals)
        return make(None)
    except WebSocketConnectionError:
        if signals.is_stopped:  # while it looked for a leader
            return None
        raise


def _take_over(
    make: Callable[[Streams | None], Feeder],
    settings: Settings,
    signals: FeederSignals,
) -> Feeder | None:
    """Return the feeder that has the feed now; None if a signal came first."""
    beside = find_running(settings)
    if beside is None:
        print_notice(f"feed {settings.feed}: no feeder runs, so this one starts")
        return make(None)
    feeder = make(beside)
    signals.give_to(feeder)
    return feeder if feeder.take_over(Follower) else None


def _run_to_its_end(feeder: Feeder, settings: Settings, unlink: bool) -> int:
    feeder.show_warmup(_show_warmup(ProgressLine()))
    print_notice(_startup_line(settings))
    code = run_feeder(feeder)
    if unlink and code == GAVE_UP:  # no signal has stopped it
        with suppress(SegmentError):
            remove_unheld(place(settings.feed))
    return code


def _show_warmup(line: ProgressLine) -> ShowWarmup:
    def show(progress: WarmupProgress | None) -> None:
        if progress is None:
            line.clear()
        else:
            bar = progress_bar(progress.bars_done, progress.bars)
            line.show(lambda: f"{bar} {progress}")

    return show


def format_check(found: VenueCheck) -> str:
    """Return the findings of `--check`: lines for venue, clock, streams and errors."""
    lines = [f"endpoint: {endpoint}" for endpoint in dict.fromkeys(found.endpoints)]
    if found.connected_after is None:
        lines.append("connection: none")
    else:
        lines.append(f"connection: subscribed after {found.connected_after:.1f} s")
    lines.append(f"clock: {_clock_words(found.offset)}")
    lines += [_stream_line(found, key) for key in found.streams]
    if found.rest is not None:
        lines += _rest_lines(found.rest)
    lines += [f"error: {error}" for error in found.errors]
    lines.append(_verdict(found))
    return "\n".join(map(printable, lines))


def _rest_lines(rest: RestFindings) -> list[str]:
    lines = [f"{symbol}: {text}" for symbol, text in rest.symbols.items()]
    lines += [f"error: {error}" for error in rest.errors]
    lines.append(f"history: {rest.name}, {_compared_words(rest)}")
    used, limit = rest.weight
    lines.append(f"weight: {used} of {limit} used in this minute, as the venue counts")
    return lines


def _compared_words(rest: RestFindings) -> str:
    if not rest.streams:
        return "no bar to compare"
    same = sum(not text for text in rest.streams.values())
    return f"the same bar in {same} of {counted(len(rest.streams), 'stream')}"


def _verdict(found: VenueCheck) -> str:
    without = len(found.streams) - len(found.bars)
    streams = counted(len(found.streams), "stream")
    if without:
        return f"FAILED: {without} of {streams} without a bar"
    return "ok" if found.is_good else "FAILED: REST does not agree, or cannot be asked"


def _clock_words(offset: float | None) -> str:
    if offset is None:
        return "the venue does not say its time"
    side = "ahead of" if offset >= 0 else "behind"
    return f"the venue's is {abs(offset):.1f} s {side} this host's"


def _stream_line(found: VenueCheck, key: StreamKey) -> str:
    name = " ".join(key)
    if key not in found.bars:
        return f"{name}: no bar; {found.missing.get(key, 'none came')}"
    bar, after = found.bars[key]
    opened = format_time(bar.open_time)
    line = f"{name}: bar of {opened}, close {bar.close:g}, after {after:.1f} s"
    differs = found.rest.streams.get(key) if found.rest is not None else ""
    return f"{line}; {differs}" if differs else line


def _startup_line(settings: Settings) -> str:
    codec = get_codec(settings.protocol, settings.market_type)
    endpoints = codec.endpoints(settings.endpoint, settings.port)
    venue = ", ".join(map(redact, endpoints))
    if settings.follows_relay:
        venue = f"{settings.source_name} in {venue}"
    symbols, resolutions = " ".join(settings.symbols), " ".join(settings.resolutions)
    streams = counted(len(settings.streams), "stream")
    wanted = f"{streams}: {symbols} x {resolutions}"
    if not settings.streams:
        wanted = "all streams of its leader"
    return f"feed {settings.feed}: pid {os.getpid()}, from {venue}, {wanted}"
