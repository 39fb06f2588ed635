"""The typed keyword arguments of the settings, made from the schema.

After a change of the schema run `python tests/support/settings_arguments.py`: it
writes `shmfeed/settings/arguments.py`. A test compares the file with the schema.
"""

from pathlib import Path

from shmfeed.settings.loading import CONFIG_FILE
from shmfeed.settings.schema import SETTINGS

ROOT = Path(__file__).parents[2]
TARGET = ROOT / "shmfeed/settings/arguments.py"
WIDTH = 88

HEAD = '''\
"""The keyword arguments of functions that take settings, for type checkers.

This file is made from the schema by tests/support/settings_arguments.py.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, TypedDict

from shmfeed.bar import Timeframe, TimeframeAlias

TimeframeName = Timeframe | TimeframeAlias
# Takes a symbol, a timeframe, and the first and the last open time in ms UTC.
HistoryFunction = Callable[[str, str, int, int], Iterable[object]]


class SettingsArguments(TypedDict, total=False):
    """Settings by name. A None counts as absent, but for `max_reconnect_attempts`."""
'''


def source() -> str:
    """Return the text of the module."""
    rows = {
        name: (row.annotation, row.help.replace(", comma-separated", ""))
        for name, row in SETTINGS.items()
    }
    path = SETTINGS["log_file"].annotation
    rows[CONFIG_FILE] = (path, "file of settings: YAML, TOML or JSON")
    lines = [HEAD]
    for name, (annotation, help_text) in rows.items():
        lines += [*_field(name, annotation), *_docstring(help_text)]
    return "\n".join(lines) + "\n"


def _field(name: str, annotation: str) -> list[str]:
    line = f"    {name}: {annotation} | None"
    if len(line) <= WIDTH:
        return [line]
    opening, choices = annotation.removesuffix("]").split("[")
    items = [f"            {choice}," for choice in choices.split(", ")]
    return [
        f"    {name}: (",
        f"        {opening}[",
        *items,
        "        ]",
        "        | None",
        "    )",
    ]


def _docstring(text: str) -> list[str]:
    sentence = f"{text[0].upper()}{text[1:]}."
    if len(sentence) + 10 <= WIDTH:
        return [f'    """{sentence}"""']
    cut = sentence.rindex(" ", 0, WIDTH - 8)
    return [f'    """{sentence[:cut]}', f"    {sentence[cut + 1 :]}", '    """']


if __name__ == "__main__":
    TARGET.write_text(source())
