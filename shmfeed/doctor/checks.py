"""All groups of checks, in the order in which their findings are printed."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from shmfeed.doctor.capacity import check_capacity
from shmfeed.doctor.deleted_segments import check_deleted_segments
from shmfeed.doctor.environment import accepted_variables, check_environment
from shmfeed.doctor.feeds import check_feeds, check_identity
from shmfeed.doctor.finding import Finding, note, problem
from shmfeed.doctor.history import check_history
from shmfeed.doctor.machine import check_machine
from shmfeed.doctor.permissions import (
    check_config_file,
    check_group,
    check_owner,
    check_permissions,
)
from shmfeed.doctor.relay import check_relay
from shmfeed.doctor.session import check_session
from shmfeed.doctor.store import check_store
from shmfeed.doctor.versions import check_versions
from shmfeed.errors import BadArgumentError, UnsupportedPlatformError
from shmfeed.settings import loading
from shmfeed.settings.model import Settings


def run_checks(
    arguments: Mapping[str, object], environ: Mapping[str, str]
) -> Iterator[Finding]:
    """Yield the findings of every check.

    Settings that are refused become a finding; the checks then use the others.

    Args:
        arguments: Settings by name, as `loading.load` takes them.
        environ: The environment to check.
    """
    settings, faults = _load_settings(arguments, environ)
    file = arguments.get(loading.CONFIG_FILE) or environ.get(loading.CONFIG_VARIABLE)
    groups: list[tuple[str, Callable[[], Iterable[Finding]]]] = [
        ("machine", check_machine),
        ("versions", check_versions),
        ("settings", lambda: faults),
        ("environment", lambda: check_environment(environ)),
        ("config file", lambda: [check_config_file(Path(str(file)))] if file else []),
        ("capacity", lambda: check_capacity(settings)),
        ("permissions", check_permissions),
        ("group", lambda: check_group(settings.group)),
        ("owner", lambda: check_owner(environ)),
        ("identity", lambda: check_identity(settings)),
        ("history", lambda: check_history(settings)),
        ("relay", lambda: check_relay(settings)),
        ("store", lambda: check_store(settings)),
        ("feeds", check_feeds),
        ("deleted segments", check_deleted_segments),
        ("session", lambda: [check_session()]),
    ]
    for name, check in groups:
        yield from _run_group(name, check)


def _run_group(name: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except UnsupportedPlatformError:
        yield note(name, "not checked, because this platform has no live feeds")
    except OSError as error:
        yield note(name, f"cannot be checked: {error}")


def _without_near_misses(environ: Mapping[str, str]) -> dict[str, str]:
    # They have findings of their own, and loading would log a warning for each.
    accepted = accepted_variables(environ)
    return {n: text for n, text in accepted.items() if loading.near_miss(n) is None}


def _load_settings(
    arguments: Mapping[str, object], environ: Mapping[str, str]
) -> tuple[Settings, list[Finding]]:
    """Return a feeder's settings, or a finding and the settings to use instead."""
    try:
        return loading.load(arguments, _without_near_misses(environ)), []
    except BadArgumentError as error:
        fault = problem("settings", str(error), "correct it; no feeder starts with it")
    given = {
        name: value for name, value in arguments.items() if name != loading.CONFIG_FILE
    }
    try:
        return loading.load(given, {}), [fault]
    except BadArgumentError:
        return Settings(), [fault]
