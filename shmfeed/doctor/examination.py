"""All checks, in the order in which they are shown."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from shmfeed.doctor.capacity import check_room
from shmfeed.doctor.environment import check_environment, sound
from shmfeed.doctor.feeds import check_feeds
from shmfeed.doctor.finding import Finding, note, problem
from shmfeed.doctor.machine import check_machine
from shmfeed.doctor.permissions import check_config, check_permissions
from shmfeed.doctor.session import check_session
from shmfeed.doctor.versions import check_versions
from shmfeed.errors import BadArgumentError, UnsupportedPlatformError
from shmfeed.settings import loading
from shmfeed.settings.model import Settings

_FILE_VARIABLE = "SHMFEED_CONFIG_FILE"


def examine(
    arguments: Mapping[str, object], environ: Mapping[str, str]
) -> Iterator[Finding]:
    """What every check found. `arguments` are those of `config.load`.

    Settings that are refused are a finding, and the plan is that of the others.
    """
    settings, faults = _settings(arguments, environ)
    file = arguments.get(loading.CONFIG_FILE) or environ.get(_FILE_VARIABLE)
    groups: list[tuple[str, Callable[[], Iterable[Finding]]]] = [
        ("machine", check_machine),
        ("versions", check_versions),
        ("settings", lambda: faults),
        ("environment", lambda: check_environment(environ)),
        ("config file", lambda: [check_config(Path(str(file)))] if file else []),
        ("room", lambda: check_room(settings)),
        ("permissions", check_permissions),
        ("feeds", check_feeds),
        ("session", lambda: [check_session()]),
    ]
    for name, check in groups:
        yield from _guarded(name, check)


def _guarded(name: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except UnsupportedPlatformError:
        yield note(name, "not looked at: there are no live feeds on this platform")
    except OSError as error:
        yield note(name, f"could not be looked at: {error}")


def _settings(
    arguments: Mapping[str, object], environ: Mapping[str, str]
) -> tuple[Settings, list[Finding]]:
    """The settings as a feeder would have them; else what is wrong, and a plan."""
    try:
        return loading.load(arguments, sound(environ)), []
    except BadArgumentError as error:
        fault = problem("settings", str(error), "correct it: no feeder starts with it")
    given = {
        name: value for name, value in arguments.items() if name != loading.CONFIG_FILE
    }
    try:
        return loading.load(given, {}), [fault]
    except BadArgumentError:
        return Settings(), [fault]
