"""A pytest plugin that runs the tests on the C extension that OTHER_CORE names.

`python -m pytest -p other_core ..`, with this directory on PYTHONPATH. The extension is
one that was built otherwise, as with sanitizers.
"""

import importlib.util
import os
import sys
from pathlib import Path

NAME = "shmfeed._ringbuf"


def load(path: Path) -> None:
    """Load this extension as the package's own, whatever its directory holds."""
    spec = importlib.util.spec_from_file_location(NAME, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    spec.loader.exec_module(module)


def pytest_report_header() -> str:
    from shmfeed import core

    assert core.extension is sys.modules[NAME], core.WHY
    return f"core: {core.build}, {core.extension.__file__}"


if "OTHER_CORE" in os.environ:
    load(Path(os.environ["OTHER_CORE"]))
