"""The sources of settings: arguments, else the environment, else a file, else defaults.

A file is YAML, TOML or JSON, told apart by its ending. Messages name the file and the
place in it, never its text: it may hold the token.
"""

import difflib
import json
import logging
import os
import re
import stat
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from shmfeed.errors import BadArgumentError
from shmfeed.settings.conflicts import ConflictError
from shmfeed.settings.model import Settings, from_checked
from shmfeed.settings.relay import PASSWORD
from shmfeed.settings.schema import (
    OPTIONS,
    SECRETS,
    SETTINGS,
    TOKEN,
    TOKEN_FILE,
    check_setting,
    nearest,
    parse_setting,
)
from shmfeed.text import repr_short
from shmfeed.validation import BACKTEST_VARIABLE, REPLAY_VARIABLE

CONFIG_FILE = "config_file"
MAX_BYTES = 1 << 20
_PREFIX = "SHMFEED_"
CONFIG_VARIABLE = f"{_PREFIX}{CONFIG_FILE.upper()}"
# Variables with the prefix that are not settings.
_RESERVED = frozenset(
    {
        BACKTEST_VARIABLE,
        REPLAY_VARIABLE,
        "SHMFEED_BUILD_EXTENSION",
        "SHMFEED_COPY",
        "SHMFEED_EXPECT",
        "SHMFEED_FAIL",
        "SHMFEED_KEEP_MB",
        "SHMFEED_LABEL",
        "SHMFEED_MAX_AGE",
        "SHMFEED_ON_GAP",
        "SHMFEED_ON_SHORT",
        "SHMFEED_ON_STALE",
        "SHMFEED_ON_UNCONFIRMED",
        "SHMFEED_OWNER",
        "SHMFEED_PURE",
        "SHMFEED_TEST_DATA",
    }
)
_SHARED_PREFIX = "WEBSOCKET_"
OF_OTHERS = {"WEBSOCKET_CLIENT_CA_BUNDLE"}  # read by websocket-client itself
_CLOSE = 0.65  # of 1; TOKEN is as close to CSRF_TOKEN
_warned: set[str] = set()
_WEBSOCKET = ("endpoint", TOKEN, TOKEN_FILE, "market_type", "symbols", "resolutions")
VARIABLES = {
    **{f"WEBSOCKET_{name.upper()}": name for name in _WEBSOCKET},
    **{f"{_PREFIX}{name.upper()}": name for name in SETTINGS if name not in _WEBSOCKET},
    "WEBSOCKET_PORT": "port",
    CONFIG_VARIABLE: CONFIG_FILE,
}
# The one setting whose None, as an argument, is a value: it means for ever.
_NONE_COUNTS = "max_reconnect_attempts"
# The settings that a file may give as a mapping.
_MAPPINGS = [name for name, row in SETTINGS.items() if "Mapping" in row.annotation]
_YAML_MAPPING = "tag:yaml.org,2002:map"
_POSITION = re.compile(r"\(at ([a-z0-9 ,]+)\)$")
_log = logging.getLogger(__name__)


class Secret(str):
    """A text whose repr hides it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class RawValue(NamedTuple):
    """An unchecked value; `text` if it must be parsed, `origin` for messages."""

    value: object
    origin: str
    text: bool = False


def load(
    arguments: Mapping[str, object], environ: Mapping[str, str] | None = None
) -> Settings:
    """Return the settings that all sources give; `config_file` names a file.

    Args:
        arguments: Values by setting. A None counts as absent, but for
            `max_reconnect_attempts`, where it means for ever.
        environ: Variables by name; by default those of the process.

    Raises:
        BadArgumentError: The message names the setting, its value, what is accepted
            and the source of the value.
    """
    return load_with_origins(arguments, environ)[0]


def load_with_origins(
    arguments: Mapping[str, object], environ: Mapping[str, str] | None = None
) -> tuple[Settings, dict[str, str]]:
    """Return the settings as `load` does, and the source of each that has one.

    A source is `argument`, `environment VARIABLE` or `file PATH`; a setting without one
    has its default. Raises as `load` does.
    """
    given = _gather(arguments, os.environ if environ is None else environ)
    values = {name: _checked(name, value) for name, value in given.items()}
    try:
        settings = from_checked(values)
    except ConflictError as error:
        origins = [f"{n} from {given[n].origin}" for n in error.names if n in given]
        raise BadArgumentError(f"{error} ({'; '.join(origins)})") from None
    return settings, {name: value.origin for name, value in given.items()}


def from_env(environ: Mapping[str, str] | None = None) -> dict[str, object]:
    """Return the checked settings of the environment; the token's repr hides its value.

    The result can be passed on as arguments. A `config_file` is named, not read.
    """
    found = _environment(os.environ if environ is None else environ)
    file = found.pop(CONFIG_FILE, None)
    values = {name: _checked(name, given) for name, given in found.items()}
    for name in (TOKEN, PASSWORD):
        if name in values:
            values[name] = Secret(values[name])
    return values | ({CONFIG_FILE: file.value} if file else {})


def from_options(options: Mapping[str, object]) -> dict[str, object]:
    """Return checked arguments for `load` from the options of a command line.

    Texts are parsed like variables of the environment. A None is an option that was
    not given; names that are not in OPTIONS are left out.
    """
    known = {option.setting for option in OPTIONS}
    return {
        name: _checked(
            name,
            RawValue(value, f"--{name.replace('_', '-')}", isinstance(value, str)),
        )
        for name, value in options.items()
        if name in known and value is not None
    }


def _gather(
    arguments: Mapping[str, object], environ: Mapping[str, str]
) -> dict[str, RawValue]:
    """Return each setting's value from the first source that has it."""
    warn_of_near_misses(environ)
    given = _environment(environ) | _known_only(arguments, "argument", CONFIG_FILE)
    file = given.pop(CONFIG_FILE, None)
    return (_file(file) | given) if file else given


def _checked(name: str, given: RawValue) -> object:
    try:
        if given.text:
            return parse_setting(name, str(given.value))
        return check_setting(name, given.value)
    except BadArgumentError as error:
        raise BadArgumentError(f"{error} (from {given.origin})") from None


def _environment(environ: Mapping[str, str]) -> dict[str, RawValue]:
    found: dict[str, RawValue] = {}
    for variable, text in environ.items():
        if not text or variable in _RESERVED:
            continue
        name = VARIABLES.get(variable)
        if name is not None:
            _add(found, name, RawValue(text, f"environment {variable}", text=True))
        elif variable.startswith(_PREFIX):
            raise _unknown(variable, "environment", _nearest_variable(variable))
    return found


def near_miss(variable: str) -> str | None:
    """Return the variable of ours that a WEBSOCKET_* variable was meant to be.

    None if it is one of ours, or not like any. Other programs have such variables too,
    so they are no error.
    """
    upper = variable.upper()
    if variable in VARIABLES or not upper.startswith(_SHARED_PREFIX):
        return None
    if upper in VARIABLES:
        return upper
    if upper in OF_OTHERS:
        return None
    rests = {name.partition("_")[2]: name for name in VARIABLES}
    rest = upper.removeprefix(_SHARED_PREFIX)
    found = difflib.get_close_matches(rest, rests, 1, cutoff=_CLOSE)
    return rests[found[0]] if found else None


def warn_of_near_misses(environ: Mapping[str, str]) -> None:
    """Log a warning for each misspelt variable, once a process; never its value."""
    for variable in environ.keys() - _warned:
        near = near_miss(variable)
        if near is not None:
            _warned.add(variable)
            _log.warning(
                "environment %s is not a setting and is ignored; did you mean %s?",
                repr_short(variable).strip("'"),
                near,
            )


def _add(found: dict[str, RawValue], name: str, given: RawValue) -> None:
    other = found.setdefault(name, given)
    if other.value != given.value:
        raise BadArgumentError(
            f"{name} is given twice and differs: {other.origin} and {given.origin}"
        )


def _file(given: RawValue) -> dict[str, RawValue]:
    if not isinstance(given.value, str | os.PathLike) or not given.value:
        value = repr_short(given.value)
        raise BadArgumentError(
            f"{CONFIG_FILE} {value} is not accepted; give the path of a file"
            f" (from {given.origin})"
        )
    path = Path(given.value)
    return _known_only(read_file(path), f"file {path}")


def _known_only(
    values: Mapping[str, object], origin: str, *more: str
) -> dict[str, RawValue]:
    known = [*SETTINGS, *more]
    for name in values:
        if name not in known:
            raise _unknown(name, origin, nearest(name, known))
    return {
        name: RawValue(value, origin)
        for name, value in values.items()
        if value is not None or name == _NONE_COUNTS
    }


def _nearest_variable(variable: str) -> str:
    setting = nearest(variable.removeprefix(_PREFIX), [*SETTINGS, CONFIG_FILE])
    return next(known for known, name in VARIABLES.items() if name == setting)


def _unknown(name: object, origin: str, near: str) -> BadArgumentError:
    # The value is not shown: a misspelt name may carry a secret.
    return BadArgumentError(
        f"unknown setting {repr_short(name)} (from {origin});"
        f" the nearest known one is {near!r}"
    )


class _FileError(Exception):
    """A fault of a file; the message holds none of its text."""


def read_file(path: Path, warn: bool = True) -> dict[str, object]:
    """Return the unchecked settings in a file.

    Unless `warn` is False, log a warning for a secret in a file that others may read.

    Raises:
        BadArgumentError: The file is missing, unreadable, over 1 MiB, not regular, of
            another type, or not one mapping with each key once, flat but for headers.
    """
    try:
        data, mode = _bytes(path)
        content = _decode(path, data)
    except _FileError as fault:
        raise BadArgumentError(f"config_file {str(path)!r}: {fault}") from None
    if warn and any(map(content.get, SECRETS)) and mode & 0o077:
        _log.warning(
            "%s holds a secret and its mode is %o: others may read it; chmod 600 it",
            path,
            stat.S_IMODE(mode),
        )
    return content


def _bytes(path: Path) -> tuple[bytes, int]:
    # Without O_NONBLOCK open() of a named pipe waits for its writer.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags)
        try:
            return _content(descriptor)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise _FileError(f"cannot be read: {reason}") from None


def _content(descriptor: int) -> tuple[bytes, int]:
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        raise _FileError("is not a regular file")
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise _FileError(f"is larger than {MAX_BYTES} bytes")
    return data, mode


def _decode(path: Path, data: bytes) -> dict[str, object]:
    decoder = _DECODERS.get(path.suffix.lower())
    if decoder is None:
        endings = " ".join(_DECODERS)
        raise _FileError(f"its ending is {path.suffix!r}; one of: {endings}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _FileError(f"is not UTF-8 text, at byte {error.start}") from None
    try:
        content = decoder(text)
    except (ValueError, RecursionError):
        # The decoder's message may quote the text.
        raise _FileError(f"is not well-formed {decoder.__name__[1:]}") from None
    if not isinstance(content, dict):
        raise _FileError("its top level is not a mapping of settings")
    return content


def _json(text: str) -> object:
    try:
        return json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise _FileError(f"is not well-formed json at {place}") from None


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        double = next(key for key in keys if keys.count(key) > 1)
        raise _FileError(f"has the key {double[:80]!r} twice")
    return content


def _toml(text: str) -> object:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _POSITION.search(str(error))
        place = f" at {found[1]}, or a key is there twice" if found else ""
        raise _FileError(f"is not well-formed toml{place}") from None


def _yaml(text: str) -> object:
    try:
        import yaml  # noqa: PLC0415  optional: only a YAML file needs it
    except ImportError:
        hint = "pip install PyYAML, or write TOML"
        raise _FileError(f"needs PyYAML: {hint}") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is None:  # nothing but comments
            return {}
        if isinstance(node, yaml.MappingNode):
            _check_flat(node.value, yaml)
        return yaml.safe_load(text)
    # PyYAML raises the last two for `!!int ""` and `!!bool x`.
    except (yaml.YAMLError, LookupError, AttributeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise _FileError(f"is not well-formed yaml{place}") from None


def _check_flat(pairs: list[tuple[Any, Any]], yaml: Any, depth: int = 0) -> None:
    """Refuse duplicate keys, and nesting, whose aliases could grow without limit.

    The value of a few settings may be a mapping of values.
    """
    seen = set()
    for key, value in pairs:
        line = key.start_mark.line + 1
        if not depth and key.value in _MAPPINGS and value.tag == _YAML_MAPPING:
            _check_flat(value.value, yaml, depth + 1)
        else:
            is_list = isinstance(value, yaml.SequenceNode) and not depth
            parts = value.value if is_list else [value]
            if not all(isinstance(part, yaml.ScalarNode) for part in (key, *parts)):
                raise _FileError(
                    f"line {line} is neither a value nor a list of values: settings are"
                    " not nested"
                )
        if key.value in seen:
            raise _FileError(
                f"has the key {key.value[:80]!r} twice, again at line {line}"
            )
        seen.add(key.value)


_DECODERS: dict[str, Callable[[str], object]] = {
    ".yaml": _yaml,
    ".yml": _yaml,
    ".toml": _toml,
    ".json": _json,
}
