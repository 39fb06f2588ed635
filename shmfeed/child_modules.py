"""The start of a module of this package as a process of its own."""

import os
import sys
import sysconfig
from pathlib import Path

_OWN_PREFIXES = ("WEBSOCKET_", "SHMFEED_")
_PASSED_ON = {"SHMFEED_PURE"}


def module_command(module: str) -> list[str]:
    """Return the arguments that run a module; no file of the directory shadows it."""
    return [sys.executable, "-P", "-m", module]


def module_environment(*, with_settings: bool = False) -> dict[str, str]:
    """Return this process's environment, in which the child finds the same package.

    Without settings it has no variable that may hold a secret of them.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if with_settings or name in _PASSED_ON or not name.startswith(_OWN_PREFIXES)
    }
    home = str(Path(__file__).resolve().parents[1])
    if home not in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        paths = [path for path in (kept.get("PYTHONPATH"), home) if path]
        kept["PYTHONPATH"] = os.pathsep.join(paths)
    return kept
