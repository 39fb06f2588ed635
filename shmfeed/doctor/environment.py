"""Environment variables that are misspelt, or whose values are not accepted."""

from collections.abc import Iterator, Mapping

from shmfeed.doctor.finding import Finding, note, ok, problem
from shmfeed.errors import BadArgumentError
from shmfeed.settings.loading import OF_OTHERS, VARIABLES, from_env, near_miss
from shmfeed.settings.schema import nearest
from shmfeed.text import repr_short
from shmfeed.validation import (
    BACKTEST_VARIABLE,
    FEED_VARIABLE,
    REPLAY_VARIABLE,
    check_switch,
    marks_backtest,
    names_no_feed,
)

_COPY = "SHMFEED_COPY"
_PREFIXES = ("SHMFEED_", "WEBSOCKET_")


def check_environment(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield a finding for each wrong variable, or one that says all are right."""
    findings = [
        finding
        for variable in sorted(environ)
        if (finding := _check_variable(variable, environ[variable])) is not None
    ]
    if not findings:
        known = sorted(name for name in VARIABLES if environ.get(name))
        names = ", ".join(known) or "none"
        findings = [ok("environment", f"settings from variables: {names}")]
    yield from findings


def accepted_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without the settings that a feeder refuses."""
    return {name: text for name, text in environ.items() if not _refusal(name, text)}


def _check_variable(variable: str, text: str) -> Finding | None:
    name = f"environment {variable}"
    read = _read_instead(variable, text)
    if read is not None:
        return note(
            name,
            f"is {repr_short(text)}; strategies with this environment {read}",
            f"unset {variable} where live strategies or feeders run",
        )
    if variable == _COPY and not _is_yes_or_no(text):
        return problem(
            name,
            f"is {repr_short(text)}, which is neither yes nor no; every read of a"
            " strategy fails",
            f"export {variable}=1 for private frames, or unset {variable}",
        )
    refusal = _refusal(variable, text)
    if refusal is not None:
        return problem(
            name, refusal, f"correct it, or unset {variable}; no feeder starts with it"
        )
    upper = variable.upper()
    misspelt = upper.startswith(_PREFIXES) and variable not in VARIABLES
    if not misspelt or variable in OF_OTHERS or variable.startswith("SHMFEED_"):
        return None
    near = near_miss(variable) or nearest(variable, list(VARIABLES))
    return note(name, f"is not a setting and is ignored; did you mean {near}?")


def _read_instead(variable: str, text: str) -> str | None:
    """Return what strategies read that read no live bar for this variable, in words."""
    if variable == FEED_VARIABLE and names_no_feed(text):
        return "read no feed, as in a backtest"
    if variable == BACKTEST_VARIABLE and marks_backtest(text):
        return "belong to a backtest and read no feed"
    if variable == REPLAY_VARIABLE and text:
        return "read the bars of a replay, and no other feed"
    return None


def _is_yes_or_no(text: str) -> bool:
    try:
        check_switch(_COPY, text)
    except BadArgumentError:
        return False
    return True


def _refusal(name: str, text: str) -> str | None:
    try:
        from_env({name: text})
    except BadArgumentError as error:
        return str(error)
    return None
