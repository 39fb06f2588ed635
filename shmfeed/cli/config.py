"""`shmfeed config show`: the settings of a feeder, and where each comes from."""

import argparse
import json
import os
import re
from collections.abc import Mapping
from typing import NamedTuple

from shmfeed.cli.output import format_table, print_output
from shmfeed.cli.setting_options import add_setting_options
from shmfeed.settings import loading
from shmfeed.settings.model import Settings
from shmfeed.settings.schema import SECRETS, SETTINGS
from shmfeed.text import printable

_DESCRIPTION = """\
Show each setting that a feeder would run with here: its name, its value, and the source
of the value, which is an option (argument), a variable of the environment, a file, or
the default. Give the options that `shmfeed run` gets. Tokens, passwords, values of
headers, arguments of commands, and all of a URL beyond its host are masked. Nothing is
started.
"""

_EPILOG = """\
examples:
  shmfeed config show
  shmfeed config show --config feed.yaml --history 5000
  shmfeed config show --json | jq -r 'map(select(.from != "default"))[].name'
"""

_HEADER = ("SETTING", "VALUE", "FROM")
_DEFAULT = "default"
_MASK = "***"
# A URL: its scheme, what comes before an @, its host and port, and the rest.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)(?:[^\s/?#]*@)?([^\s/?#@]*)(\S*)")


class Row(NamedTuple):
    """A setting, its value fit for display, and the source of the value."""

    name: str
    value: object
    origin: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.usage = "shmfeed config show [--config FILE] [--json] [--SETTING VALUE ..]"
    parser.add_argument(
        "action", choices=["show"], metavar="show", help="print the settings"
    )
    parser.add_argument(
        "--json", action="store_true", help="print a JSON list of objects"
    )
    add_setting_options(parser)


def run(args: argparse.Namespace) -> int:
    arguments = loading.from_options(vars(args)) | {loading.CONFIG_FILE: args.config}
    settings, origins = loading.load_with_origins(arguments)
    rows = [*_file_row(args.config), *list_settings(settings, origins)]
    print_output(_format_json(rows) if args.json else format_settings(rows))
    return 0


def list_settings(settings: Settings, origins: Mapping[str, str]) -> list[Row]:
    """Return a row for each setting, in the order of the schema, with secrets masked.

    Args:
        settings: The settings in force.
        origins: The source of each value that is not the default.
    """
    rows = []
    for name in SETTINGS:
        origin = origins.get(name, _DEFAULT)
        if origin == "argument":
            origin = f"argument --{name.replace('_', '-')}"
        rows.append(Row(name, mask(name, getattr(settings, name)), origin))
    return rows


def mask(name: str, value: object) -> object:
    """Return a setting's value without what may be a secret."""
    if name == "headers" and isinstance(value, tuple):
        return {header: _MASK for header, _ in value}
    if name in SECRETS:
        return _MASK if value else value
    if isinstance(value, tuple) and name in _COMMANDS:
        return [_mask_urls(str(value[0])), *[_MASK] * (len(value) - 1)]
    if isinstance(value, tuple):
        if value and all(isinstance(item, tuple) for item in value):
            return dict(value)  # seconds or days by timeframe
        return [_mask_urls(item) if isinstance(item, str) else item for item in value]
    return _mask_urls(value) if isinstance(value, str) else value


# Settings that may be a command: its arguments may hold a key.
_COMMANDS = ("backfill", "on_event")


def _mask_urls(text: str) -> str:
    return _URL.sub(_mask_url, text)


def _mask_url(found: re.Match[str]) -> str:
    scheme, host, rest = found.groups()
    return f"{scheme}{host}{'/...' if rest.strip('/') else rest}"


def format_settings(rows: list[Row]) -> str:
    """Return the settings as a table."""
    cells = [
        tuple(map(printable, (row.name, _format_value(row.value), row.origin)))
        for row in rows
    ]
    return "\n".join(format_table([_HEADER, *cells]))


def _format_value(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return ",".join(f"{name}={_format_value(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ",".join(map(_format_value, value))
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def _format_json(rows: list[Row]) -> str:
    listed = [
        {"name": row.name, "value": row.value, "from": row.origin} for row in rows
    ]
    return json.dumps(listed, indent=2)


def _file_row(option: str | None) -> list[Row]:
    """Return the row of the file that the settings were read from, if there is one."""
    if option:
        return [Row(loading.CONFIG_FILE, option, "argument --config")]
    variable = loading.CONFIG_VARIABLE
    path = os.environ.get(variable)
    return [Row(loading.CONFIG_FILE, path, f"environment {variable}")] if path else []
