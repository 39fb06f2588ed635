"""Which screen a demo is shown on."""

import importlib.util
import sys

from shmfeed.demo.plan import Plan
from shmfeed.demo.screen import JsonScreen, PlainScreen, Screen


def choose(plan: Plan, as_json: bool) -> Screen:
    """The live table where there is a terminal and rich, else lines."""
    if as_json:
        return JsonScreen(plan)
    if sys.stdout.isatty() and importlib.util.find_spec("rich"):
        from shmfeed.demo.table import TableScreen  # noqa: PLC0415 # an extra

        return TableScreen(plan)
    return PlainScreen(plan)
