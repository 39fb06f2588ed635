"""Which screen a demo is shown on."""

import importlib.util
import os
import sys

from shmfeed.demo.options import Plan
from shmfeed.demo.report import JsonScreen, PlainScreen, Screen


def choose(plan: Plan, as_json: bool) -> Screen:
    """The live table where there is a terminal and rich, else lines."""
    if as_json:
        return JsonScreen(plan)
    terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    if terminal and importlib.util.find_spec("rich"):
        from shmfeed.demo.table import TableScreen  # noqa: PLC0415 # an extra

        return TableScreen(plan)
    return PlainScreen(plan)
