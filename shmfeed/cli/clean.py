"""`shmfeed clean`: remove the files that no feeder holds."""

import argparse
import json

from shmfeed.cli.exit_codes import FAILED
from shmfeed.cli.output import print_output
from shmfeed.segment.removal import HELD, Leftover, clean_all, clean_feed
from shmfeed.text import mebibytes, printable

_DESCRIPTION = """\
Remove from /dev/shm the files of this user's feeds that no feeder holds: segments of
feeders that ended or were killed, with their bars; unfinished segments; control
sockets. The files of a running feeder stay, and so does any file that no feeder made;
each is listed with the reason. Lock files stay: they keep two feeders from one feed.
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
    add("--feed", metavar="NAME", help="clean this feed only, default: all feeds")
    add("--dry-run", action="store_true", help="list what would be removed, and stop")
    add("--json", action="store_true", help="print the removed and left files as JSON")


def run(args: argparse.Namespace) -> int:
    remove = not args.dry_run
    found = clean_all(remove) if args.feed is None else clean_feed(args.feed, remove)
    print_output(
        _format_json(found, remove) if args.json else format_files(found, remove)
    )
    left = [one for one in found if one.reason]
    if args.feed is None:
        left = [one for one in left if one.state != HELD]
    return FAILED if left else 0


def format_files(found: list[Leftover], removed: bool) -> str:
    """Return a line for each file, and one for their total."""
    gone, left = _split(found)
    verb, total = "removed", "removed"
    if not removed:
        verb, total = "would remove", "would be removed"
    lines = [f"{verb} {one.path} ({mebibytes(one.size)} MiB)" for one in gone]
    lines += [
        f"left {one.path} ({mebibytes(one.size)} MiB): it {one.reason}" for one in left
    ]
    size = mebibytes(sum(one.size for one in gone))
    lines.append(f"{len(gone)} {total}, {size} MiB" if gone else "nothing to remove")
    return "\n".join(map(printable, lines))


def _split(found: list[Leftover]) -> tuple[list[Leftover], list[Leftover]]:
    gone = [one for one in found if not one.reason]
    return gone, [one for one in found if one.reason]


def _format_json(found: list[Leftover], removed: bool) -> str:
    gone, left = _split(found)
    document = {
        "dry_run": not removed,
        "removed": [{"path": str(one.path), "bytes": one.size} for one in gone],
        "left": [
            {
                "path": str(one.path),
                "bytes": one.size,
                "state": one.state,
                "reason": one.reason,
            }
            for one in left
        ],
    }
    return json.dumps(document, indent=2)
