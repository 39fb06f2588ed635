"""The option `--feed` of the commands that read."""

import argparse
import os

from shmfeed.feed import Feed, attach

_VARIABLE = "SHMFEED_FEED"
_DEFAULT = "default"
_NO_FEED = "off"  # what strategies take for: use no feed


def add_feed_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--feed",
        metavar="NAME",
        help=f"default: ${_VARIABLE}, else {_DEFAULT!r}",
    )


def attach_chosen(args: argparse.Namespace) -> Feed:
    """Attach to `--feed`, else the environment's, else `default`.

    FeedNotFoundError and what else `attach` raises.
    """
    named = os.environ.get(_VARIABLE, "")
    if named.lower() == _NO_FEED:
        named = ""
    return attach(named or _DEFAULT if args.feed is None else args.feed)
