"""`shmfeed publish`: write a feed to Redis, from which other hosts follow it."""

import argparse
import os
import signal
import threading

from shmfeed.cli.output import print_notice
from shmfeed.cli.setting_options import add_setting_options
from shmfeed.errors import BadArgumentError
from shmfeed.feeder.logs import EarlyLines, FeederLog
from shmfeed.relay.process import publish
from shmfeed.settings import loading
from shmfeed.settings.endpoint import REDIS_ACCEPTED, redact
from shmfeed.validation import check_feed_name

_DESCRIPTION = """\
Publish a feed of this host to Redis, from which other hosts follow it. It reads the
feed as a strategy does, so a Redis that is slow or away holds nothing up here. Several
hosts may publish under one name: one leads, the others stand by. It waits for a feed
that is not there yet. SIGTERM or Ctrl-C ends it, and another host leads at once.

A feeder whose settings name publish_to starts this by itself. The password for Redis
comes from SHMFEED_REDIS_PASSWORD, or from the file that redis_password_file names:
other users can read arguments.
"""

_EPILOG = """\
examples:
  shmfeed publish --feed spot --to redis://127.0.0.1:6379/0
  shmfeed publish --feed spot --to rediss://feeds@redis.example:6380/0 --as spot-eu
"""

# The settings that a publisher uses, in their order.
_SETTINGS = (
    "feed",
    "allow_insecure",
    "ca_file",
    "client_cert",
    "flush_interval",
    "redis_password_file",
    "log_level",
    "log_file",
    "log_format",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.usage = (
        "shmfeed publish --feed NAME --to URL [--as NAME] [--config FILE]\n"
        "                       [--SETTING VALUE ..]"
    )
    parser.add_argument(
        "--to",
        "--publish-to",
        dest="publish_to",
        metavar="URL",
        help=f"the Redis to write to: {REDIS_ACCEPTED}",
    )
    parser.add_argument(
        "--as",
        dest="published_as",
        metavar="NAME",
        help="name of the feed in Redis, default: its own",
    )
    add_setting_options(parser, _SETTINGS)


def run(args: argparse.Namespace) -> int:
    arguments = loading.from_options(vars(args)) | {loading.CONFIG_FILE: args.config}
    with EarlyLines():
        settings = loading.load(arguments)
        if settings.publish_to is None:
            raise BadArgumentError(
                "publish_to is not set; give --to, such as --to redis://host:6379/0"
            )
        named = args.published_as
        name = check_feed_name(settings.feed if named is None else named)
        FeederLog(settings)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    print_notice(
        f"feed {settings.feed}: pid {os.getpid()}, published to"
        f" {redact(settings.publish_to)} as {name}"
    )
    publish(settings, settings.publish_to, name, stop)
    return 0
