"""`shmfeed reload`: have a running feeder read its settings again."""

import argparse
import json

from shmfeed.cli.exit_codes import FAILED
from shmfeed.cli.options import add_feed_option, chosen_feed, owner_of
from shmfeed.cli.output import print_error, print_output
from shmfeed.control.client import ask
from shmfeed.errors import FeedNotFoundError, ShmfeedError
from shmfeed.segment.mapping import place

_ANSWER_SECONDS = 60.0  # the venue may have to acknowledge a change of the streams

_DESCRIPTION = """\
Have the feeder of a feed read its settings and its token again, as SIGHUP does: its
options and environment as they were at its start, its files as they are now. It opens
its log file again. The output names the settings that have changed, and those that need
a restart. If a setting is not accepted, nothing changes.
"""

_EPILOG = """\
examples:
  shmfeed reload
  shmfeed reload --feed spot --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add_feed_option(parser)
    parser.add_argument("--json", action="store_true", help="print the names as JSON")


def run(args: argparse.Namespace) -> int:
    where = place(chosen_feed(args), owner_of(args))
    try:
        answer = ask(where.socket, "reload", _ANSWER_SECONDS)
    except FeedNotFoundError:
        raise FeedNotFoundError(
            f"no feeder of feed {where.name!r} runs; `shmfeed run` starts one"
        ) from None
    except ShmfeedError as error:
        print_error(f"feed {where.name}: the settings were not reloaded: {error}")
        return FAILED
    names = {"feed": where.name, **answer}
    print_output(
        json.dumps(names) if args.json else f"feed {where.name}: {answer['summary']}"
    )
    return 0
