"""Environment variables: those that are no settings, and those that hold rubbish."""

from collections.abc import Iterator, Mapping

from shmfeed.doctor.finding import Finding, note, ok, problem
from shmfeed.errors import BadArgumentError
from shmfeed.settings.loading import VARIABLES, from_env
from shmfeed.settings.schema import nearest, parse_flag
from shmfeed.text import repr_short
from shmfeed.validation import FEED_VARIABLE, names_no_feed

_COPY = "SHMFEED_COPY"
_PREFIXES = ("SHMFEED_", "WEBSOCKET_")
# Of websocket-client's own.
_FOREIGN = {"WEBSOCKET_CLIENT_CA_BUNDLE"}


def check_environment(environ: Mapping[str, str]) -> Iterator[Finding]:
    """A finding for each variable that is wrong, or one that none is."""
    findings = [
        finding
        for variable in sorted(environ)
        if (finding := _check(variable, environ[variable])) is not None
    ]
    set_here = sorted(set(VARIABLES) & {name for name, text in environ.items() if text})
    if not findings:
        named = ", ".join(set_here) or "none is set"
        findings = [ok("environment", f"variables that are settings: {named}")]
    yield from findings


def sound(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables without those that are refused."""
    return {name: text for name, text in environ.items() if not _fault(name, text)}


def _check(variable: str, text: str) -> Finding | None:
    name = f"environment {variable}"
    if variable == FEED_VARIABLE and names_no_feed(text):
        return note(
            name,
            f"is {text!r}: strategies with this environment use no feed, as in a"
            " backtest",
            f"unset {variable} where live strategies or feeders run",
        )
    if variable == _COPY and not _is_flag(text):
        return problem(
            name,
            f"is {repr_short(text)}, which is neither yes nor no: no strategy reads"
            " with it",
            f"export {variable}=1 for private frames, or unset {variable}",
        )
    fault = _fault(variable, text)
    if fault is not None:
        return problem(
            name, fault, f"correct it, or unset {variable}: no feeder starts with it"
        )
    upper = variable.upper()
    misspelt = upper.startswith(_PREFIXES) and variable not in VARIABLES
    if not misspelt or variable in _FOREIGN or variable.startswith("SHMFEED_"):
        return None
    near = nearest(variable, list(VARIABLES))
    return note(name, f"is no setting and is not read; did you mean {near}?")


def _is_flag(text: str) -> bool:
    word = text.strip()
    try:
        return not word or parse_flag(word) is not None
    except KeyError:
        return False


def _fault(variable: str, text: str) -> str | None:
    try:
        from_env({variable: text})
    except BadArgumentError as error:
        return str(error)
    return None
