"""Where settings come from: arguments, else the environment, else a file."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from shmfeed.arguments import shown
from shmfeed.errors import BadArgumentError
from shmfeed.settings import file as settings_file
from shmfeed.settings.table import (
    OPTIONS,
    SETTINGS,
    TOKEN,
    check,
    nearest,
    parse,
)

CONFIG_FILE = "config_file"
_PREFIX = "SHMFEED_"
# Variables of the same prefix that are no settings.
_RESERVED = frozenset(
    {
        "SHMFEED_BUILD_EXTENSION",
        "SHMFEED_COPY",
        "SHMFEED_FAIL",
        "SHMFEED_PURE",
        "SHMFEED_TEST_DATA",
    }
)
_WEBSOCKET = ("endpoint", TOKEN, "market_type", "symbols", "resolutions")
VARIABLES = {
    **{f"WEBSOCKET_{name.upper()}": name for name in _WEBSOCKET},
    **{f"{_PREFIX}{name.upper()}": name for name in SETTINGS if name not in _WEBSOCKET},
    "WEBSOCKET_PORT": "port",
    f"{_PREFIX}{CONFIG_FILE.upper()}": CONFIG_FILE,
}
# The one setting whose None, given as an argument, differs from its default.
_NONE_COUNTS = "max_reconnect_attempts"


class Secret(str):
    """A text whose repr does not show it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class Given(NamedTuple):
    """A value, unchecked; `text`: it is to be parsed; `origin` is for messages."""

    value: object
    origin: str
    text: bool = False


def gather(
    arguments: Mapping[str, object], environ: Mapping[str, str]
) -> dict[str, Given]:
    """What is given for each setting, by the first source that gives it."""
    given = _environment(environ) | _named(arguments, "argument", CONFIG_FILE)
    file = given.pop(CONFIG_FILE, None)
    return (_file(file) | given) if file else given


def checked(name: str, given: Given) -> object:
    """The value kept for a setting; BadArgumentError names the origin too."""
    try:
        if given.text:
            return parse(name, str(given.value))
        return check(name, given.value)
    except BadArgumentError as error:
        raise BadArgumentError(f"{error} (from {given.origin})") from None


def from_env(environ: Mapping[str, str] | None = None) -> dict[str, object]:
    """The settings that the environment gives, checked; the token's repr hides it.

    What comes back can be given on as arguments. A `config_file` is named, not read.
    """
    found = _environment(os.environ if environ is None else environ)
    file = found.pop(CONFIG_FILE, None)
    values = {name: checked(name, given) for name, given in found.items()}
    if TOKEN in values:
        values[TOKEN] = Secret(values[TOKEN])
    return values | ({CONFIG_FILE: file.value} if file else {})


def from_options(options: Mapping[str, object]) -> dict[str, object]:
    """Arguments for `load` from a command line's options, checked.

    Texts are parsed as the environment's are; None is an option that was not given;
    names that are no option of OPTIONS are left out.
    """
    known = {option.setting for option in OPTIONS}
    return {
        name: checked(
            name, Given(value, f"--{name.replace('_', '-')}", _is_text(value))
        )
        for name, value in options.items()
        if name in known and value is not None
    }


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _environment(environ: Mapping[str, str]) -> dict[str, Given]:
    found: dict[str, Given] = {}
    for variable, text in environ.items():
        if not text or variable in _RESERVED:
            continue
        name = VARIABLES.get(variable)
        if name is not None:
            _add(found, name, Given(text, f"environment {variable}", text=True))
        elif variable.startswith(_PREFIX):
            raise _unknown(variable, "environment", _nearest_variable(variable))
    return found


def _add(found: dict[str, Given], name: str, given: Given) -> None:
    other = found.setdefault(name, given)
    if other.value != given.value:
        raise BadArgumentError(
            f"{name} is given twice and differs: {other.origin} and {given.origin}"
        )


def _file(given: Given) -> dict[str, Given]:
    if not isinstance(given.value, str | os.PathLike) or not given.value:
        value = shown(given.value)
        raise BadArgumentError(
            f"{CONFIG_FILE} {value} is not accepted; the path of a file"
            f" (from {given.origin})"
        )
    path = Path(given.value)
    return _named(settings_file.read(path), f"file {path}")


def _named(values: Mapping[str, object], origin: str, *more: str) -> dict[str, Given]:
    known = [*SETTINGS, *more]
    for name in values:
        if name not in known:
            raise _unknown(name, origin, nearest(name, known))
    return {
        name: Given(value, origin)
        for name, value in values.items()
        if value is not None or name == _NONE_COUNTS
    }


def _nearest_variable(variable: str) -> str:
    setting = nearest(variable.removeprefix(_PREFIX), [*SETTINGS, CONFIG_FILE])
    return next(known for known, name in VARIABLES.items() if name == setting)


def _unknown(name: object, origin: str, near: str) -> BadArgumentError:
    # A misspelt name may carry a secret: its value is not shown.
    return BadArgumentError(
        f"unknown setting {shown(name)} (from {origin});"
        f" the nearest known one is {near!r}"
    )
