"""The option `--feed` of the commands that read."""

import argparse
import os

from shmfeed.feed import Feed, attach
from shmfeed.validation import DEFAULT_FEED, FEED_VARIABLE, names_no_feed


def add_feed_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--feed",
        metavar="NAME",
        help=f"default: ${FEED_VARIABLE}, else {DEFAULT_FEED!r}",
    )


def attach_chosen(args: argparse.Namespace) -> Feed:
    """Attach to `--feed`, else the environment's, else `default`.

    FeedNotFoundError and what else `attach` raises.
    """
    named = os.environ.get(FEED_VARIABLE, "")
    if names_no_feed(named):
        named = ""
    return attach(named or DEFAULT_FEED if args.feed is None else args.feed)
