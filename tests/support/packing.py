"""Build a wheel or an sdist of a checkout, without the C core."""

import subprocess
import sys
from pathlib import Path

_BUILD = """
import sys
import setuptools.build_meta as backend
getattr(backend, sys.argv[1])(sys.argv[2])
"""


def built(kind: str, tree: Path, into: Path) -> Path:
    """Build a `wheel` or an `sdist` of a tree, as an installer would; return it."""
    command = [sys.executable, "-c", _BUILD, f"build_{kind}", str(into)]
    environ = {"SHMFEED_BUILD_EXTENSION": "no", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        command, cwd=tree, env=environ, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    (found,) = into.iterdir()
    return found
