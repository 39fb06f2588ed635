"""Bad input to the C core, under AddressSanitizer and UndefinedBehaviorSanitizer.

The tests of rows, readers and writers run on an extension that was built with both.
Their runs on the pure core are left out: it has nothing that was built.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.compiling import NEEDS_BUILD, ROOT, built_core, checkout

pytestmark = [NEEDS_BUILD, pytest.mark.timeout(900)]

FLAGS = (
    "-O1 -g1 -fno-omit-frame-pointer -fsanitize=address,undefined"
    " -fno-sanitize-recover=undefined"
)
ADDRESSES = (
    "-O0 -g1 -fno-omit-frame-pointer -fsanitize=address"  # built in half the time
)
TESTS = [
    "tests/unit/shmfeed/test_ringbuf.py",
    "tests/unit/memory/test_rows.py",
    "tests/unit/shmfeed/test_ringwriter.py",
]
TESTS += ["tests/unit/shmfeed/test_cut.py::TestDamage"]
if "SANITIZE_SECONDS" in os.environ:  # a long run
    TESTS += ["tests/unit/memory/test_keeping.py", "tests/unit/memory/test_wakeup.py"]
    TESTS += [
        "tests/unit/memory/test_futex.py",
        "tests/unit/shmfeed/test_cut.py",
        "tests/unit/shmfeed/test_feed.py",
        "tests/unit/shmfeed/test_writer.py",
    ]
    TESTS += [
        "tests/unit/wealthdata/test_wealthdata_frame.py",
        "tests/unit/wealthdata/test_wealthdata_price_table.py",
        "tests/races/test_lapped.py",
    ]


def run_tests(extension: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    library = subprocess.run(
        ["cc", "-print-file-name=libasan.so"], capture_output=True, text=True
    ).stdout.strip()
    environ = {
        "LD_PRELOAD": library,
        # The interpreter never frees all of its memory: leaks are not looked for. With
        # malloc each object is a piece of the heap, and one byte beyond it is seen.
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONMALLOC": "malloc",
        "OTHER_CORE": str(extension),
        "PYTHONPATH": str(ROOT / "tests"),
        "SHMFEED_PURE": "",
    }
    command = [sys.executable, "-m", "pytest", "-p", "support.other_core", "-n", "0"]
    return subprocess.run(
        [*command, "-p", "no:cacheprovider", "-s", "-k", "not pure", *arguments],
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


# Not in the suite: it writes behind its ring where a row's place is not bounded.
BEHIND_ITS_RING = """
from support.ring_on_bytes import bench

def test_many_rows():
    bench(4).close(*range(5000))
"""


def test_a_row_behind_the_ring_is_reported(tmp_path) -> None:
    test = tmp_path / "test_behind.py"
    test.write_text(BEHIND_ITS_RING)
    change = ("row % slot->capacity", "row % (4096 * slot->capacity)")
    wrong = built_core(checkout(tmp_path, change), tmp_path, ADDRESSES)
    done = run_tests(wrong, str(test))
    assert done.returncode != 0
    assert "AddressSanitizer: heap-buffer-overflow" in done.stdout + done.stderr
