"""Bad input to the C core, under AddressSanitizer and UndefinedBehaviorSanitizer.

The tests of rows, readers and writers, run on an extension that was built with both.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from compiling import NEEDS_COMPILER, ROOT, built_core, checkout

pytestmark = [NEEDS_COMPILER, pytest.mark.timeout(900)]

FLAGS = (
    "-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined"
    " -fno-sanitize-recover=undefined"
)
TESTS = ("tests/test_ringbuf.py", "tests/test_rows.py", "tests/test_ringwriter.py")


def run_tests(extension: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    library = subprocess.run(
        ["cc", "-print-file-name=libasan.so"], capture_output=True, text=True
    ).stdout.strip()
    environ = {
        "LD_PRELOAD": library,
        # The interpreter never frees all it has. An object of its own is a piece of
        # the heap only with malloc: one byte beyond it is then seen.
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONMALLOC": "malloc",
        "OTHER_CORE": str(extension),
        "PYTHONPATH": str(ROOT / "tests"),
        "SHMFEED_PURE": "",
    }
    command = [sys.executable, "-m", "pytest", "-p", "other_core", "-n", "0"]
    return subprocess.run(
        [*command, "-p", "no:cacheprovider", *arguments],
        cwd=ROOT,
        env=os.environ | environ,
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )


def test_nothing_is_reported(tmp_path) -> None:
    done = run_tests(built_core(ROOT, tmp_path, FLAGS), *TESTS)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    assert "core: C, " in done.stdout
    assert " passed" in done.stdout
    assert "runtime error" not in done.stderr


def test_a_column_too_far_is_reported(tmp_path) -> None:
    change = ("return 2 * slot->capacity", "return 2 * slot->capacity + 1")
    done = run_tests(built_core(checkout(tmp_path, change), tmp_path, FLAGS), *TESTS)
    assert done.returncode != 0
    assert "AddressSanitizer: heap-buffer-overflow" in done.stdout + done.stderr
