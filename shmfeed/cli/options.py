"""Options of several commands that read, and the numbers of their options."""

import argparse
import os

from shmfeed.accounts import OWNER_VARIABLE, chosen_owner
from shmfeed.feed import Feed, attach
from shmfeed.validation import (
    DEFAULT_FEED,
    FEED_VARIABLE,
    check_int,
    check_seconds,
    names_no_feed,
)

_MAX_DIGITS = 9  # of a number


def add_feed_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--feed",
        metavar="NAME",
        help=f"feed to read, default: ${FEED_VARIABLE}, else {DEFAULT_FEED!r}",
    )
    add_owner_option(parser)


def add_owner_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--owner",
        metavar="USER",
        help=f"user whose feed it is, by name or number, default: ${OWNER_VARIABLE},"
        " else this user",
    )


def attach_feed(args: argparse.Namespace) -> Feed:
    """Attach to the feed of `--feed`, else of the environment, else to `default`.

    Raises:
        FeedNotFoundError: There is no such feed.
        ShmfeedError: As `attach` raises it.
    """
    return attach(chosen_feed(args), owner=owner_of(args))


def owner_of(args: argparse.Namespace) -> int | None:
    """Return the user whose feeds are read; None for this one."""
    return chosen_owner(args.owner, "--owner")


def chosen_feed(args: argparse.Namespace) -> str:
    """Return the name of the feed that `attach_feed` attaches to."""
    if args.feed is not None:
        return str(args.feed)
    name = os.environ.get(FEED_VARIABLE, "")
    return DEFAULT_FEED if not name or names_no_feed(name) else name


def parse_number(option: str, text: str) -> int:
    """Return the value of an option that is a number of at least 1.

    Raises BadArgumentError, which names the option and the text.
    """
    is_number = text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS
    return check_int(option, int(text) if is_number else text)


def parse_seconds(option: str, text: str) -> float:
    """Return the value of an option that is a time in seconds; raise as above."""
    try:
        seconds = float(text)
    except ValueError:
        return check_seconds(option, text)  # raises, and names the text
    return check_seconds(option, seconds)
