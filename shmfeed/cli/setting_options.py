"""Every setting as an option, for the commands that run or plan a feeder.

This is apart from `options` because the settings load msgspec, which a command that
reads does not load.
"""

import argparse
from collections.abc import Collection

from shmfeed.settings import schema
from shmfeed.settings.model import Settings

_METAVARS = {int: "N", float: "SECONDS", tuple: "LIST"}


def add_setting_options(
    parser: argparse.ArgumentParser, names: Collection[str] | None = None
) -> None:
    """Add `--config`, and an option for each of these settings.

    By default they are all but the secrets.
    """
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="file of settings: .yaml, .yml, .toml or .json",
    )
    group = parser.add_argument_group("settings")
    for option in schema.OPTIONS:
        if names is None or option.setting in names:
            _add_option(group, option)


def _add_option(group: "argparse._ArgumentGroup", option: schema.Option) -> None:
    name = "--" + option.setting.replace("_", "-")
    default = getattr(Settings(), option.setting)
    text = option.help.replace("%", "%%")
    if option.type is bool:
        group.add_argument(name, nargs="?", const=True, metavar="BOOL", help=text)
        group.add_argument(
            name.replace("--", "--no-", 1),
            dest=option.setting,
            action="store_const",
            const=False,
            help=argparse.SUPPRESS,
        )
        return
    if default not in (None, ()):
        text = f"{text}; default: {default}"
    group.add_argument(name, metavar=_METAVARS.get(option.type, "TEXT"), help=text)
