"""The source of history that the settings name: whether a feeder can use it here."""

import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from shmfeed.bar_files import ENDINGS
from shmfeed.doctor.finding import Finding, note, ok, problem
from shmfeed.settings.backfill import (
    AUTO,
    MANAGER,
    OFF,
    REST_MARKETS,
)
from shmfeed.settings.model import Settings

_CHECK = "history"
_OTHERS = "--backfill binance:spot, or a file, or a command"


def check_history(settings: Settings) -> Iterator[Finding]:
    """Yield the finding about `backfill`. Nothing is asked over the network."""
    source = settings.backfill
    if settings.follows_relay:
        yield ok(_CHECK, "the leader's")
    elif not isinstance(source, str):
        yield _check_command(source[0])
    elif source.lower().endswith(ENDINGS):
        yield _check_file(Path(source))
    elif source == OFF:
        yield note(
            _CHECK, "off: bars that a lost connection missed stay missing", _OTHERS
        )
    elif source == AUTO and settings.protocol not in REST_MARKETS:
        yield note(
            _CHECK,
            f"protocol {settings.protocol} has no REST service, so bars that a lost"
            " connection missed stay missing",
            _OTHERS,
        )
    elif source == MANAGER:
        yield ok(_CHECK, "a function of a manager, while its process runs")
    else:
        yield ok(_CHECK, "by REST of the venue" if source == AUTO else source)


def _check_command(program: str) -> Finding:
    found = shutil.which(program)
    if found is None:
        return problem(
            _CHECK,
            f"the command {program!r} of backfill is not found, or not executable",
            "correct backfill, or PATH of the feeder",
        )
    return ok(_CHECK, f"command {found}")


def _check_file(path: Path) -> Finding:
    if not path.is_file():
        return problem(_CHECK, f"{path} of backfill is no file", "correct backfill")
    if not os.access(path, os.R_OK):
        return problem(_CHECK, f"{path} cannot be read", f"chmod u+r {path}")
    if path.suffix.lower() == ".parquet" and not importlib.util.find_spec("pyarrow"):
        return problem(
            _CHECK,
            f"{path} needs pyarrow, which is not installed",
            "pip install pyarrow",
        )
    return ok(_CHECK, f"file {path}")
