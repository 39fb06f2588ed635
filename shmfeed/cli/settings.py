"""The settings as options, for commands that take them."""

import argparse

from shmfeed.settings import schema
from shmfeed.settings.model import Settings

_WORDS = {int: "N", float: "SECONDS", tuple: "LIST"}


def add_settings(parser: argparse.ArgumentParser) -> None:
    """`--config`, and an option for every setting but the token."""
    parser.add_argument(
        "--config", metavar="FILE", help="settings in YAML, TOML or JSON, by its ending"
    )
    group = parser.add_argument_group("settings")
    for option in schema.OPTIONS:
        _add(group, option)


def _add(group: "argparse._ArgumentGroup", option: schema.Option) -> None:
    name = "--" + option.setting.replace("_", "-")
    default = getattr(Settings(), option.setting)
    text = option.help.replace("%", "%%")
    if option.type is bool:
        group.add_argument(
            name, action=argparse.BooleanOptionalAction, default=None, help=text
        )
        return
    if default not in (None, ()):
        text = f"{text}; default: {default}"
    word = _WORDS.get(option.type, "TEXT")
    group.add_argument(name, metavar=word, help=text)
