"""`shmfeed clean`: remove what no feeder holds."""

import argparse
import json

from shmfeed.cli.exit_codes import FAILED
from shmfeed.cli.output import show
from shmfeed.segment.removal import HELD, Leftover, clean_all, clean_feed
from shmfeed.text import mebibytes, printable

_DESCRIPTION = """\
Remove from /dev/shm what no feeder of this user holds: segments of feeders that ended
or were killed, with their bars; unfinished segments; control sockets. A feed that a
feeder holds is left whole, and so is whatever no feeder has made; it is said why.
Lock files stay: they are what keeps two feeders from one feed.
"""

_EPILOG = """\
examples:
  shmfeed clean --dry-run
  shmfeed clean
  shmfeed clean --feed spot --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add = parser.add_argument
    add("--feed", metavar="NAME", help="of this feed only; default: of all")
    add("--dry-run", action="store_true", help="only say what would be removed")
    add("--json", action="store_true", help="what went and what stayed, as JSON")


def run(args: argparse.Namespace) -> int:
    remove = not args.dry_run
    found = clean_all(remove) if args.feed is None else clean_feed(args.feed, remove)
    show(_as_json(found, remove) if args.json else in_words(found, remove))
    stayed = [one for one in found if one.reason]
    if args.feed is None:
        stayed = [one for one in stayed if one.state != HELD]
    return FAILED if stayed else 0


def in_words(found: list[Leftover], removed: bool) -> str:
    """A line for each thing, and one for all of them."""
    gone = [one for one in found if not one.reason]
    done = "removed" if removed else "would remove"
    lines = [f"{done} {one.path} ({mebibytes(one.size)} MiB)" for one in gone]
    lines += [
        f"left {one.path} ({mebibytes(one.size)} MiB): it {one.reason}"
        for one in found
        if one.reason
    ]
    size = mebibytes(sum(one.size for one in gone))
    total = f"{len(gone)} {'removed' if removed else 'would be removed'}, {size} MiB"
    lines.append(total if gone else "there is nothing to remove")
    return "\n".join(map(printable, lines))


def _as_json(found: list[Leftover], removed: bool) -> str:
    gone = [
        {"path": str(one.path), "bytes": one.size} for one in found if not one.reason
    ]
    left = [
        {
            "path": str(one.path),
            "bytes": one.size,
            "state": one.state,
            "reason": one.reason,
        }
        for one in found
        if one.reason
    ]
    return json.dumps({"dry_run": not removed, "removed": gone, "left": left}, indent=2)
