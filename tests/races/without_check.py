"""The C core, built anew without one of its checks: it must be seen to tear."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from support import cores
from support.compiling import ROOT


def core(check: str, into: Path) -> cores.Core:
    """The extension with RING_WITHOUT_<check>, which `_ring.h` knows."""
    flags = f"{os.environ.get('CFLAGS', '')} -DRING_WITHOUT_{check}"
    places = ["--build-lib", str(into / "lib"), "--build-temp", str(into / "temp")]
    done = subprocess.run(
        [sys.executable, "setup.py", "--quiet", "build_ext", *places],
        cwd=ROOT,
        env=os.environ | {"CFLAGS": flags, "SHMFEED_BUILD_EXTENSION": "yes"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    (path,) = into.rglob("_ringbuf*.so")
    spec = importlib.util.spec_from_file_location(f"without_{check}._ringbuf", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return cores.Core("C", module.RingReader, module.RingWriter)
