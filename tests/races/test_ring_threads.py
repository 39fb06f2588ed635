"""The C protocol with threads on one ring, plain and under sanitizers.

SANITIZE_SECONDS is the length of each run; `make sanitize` sets a longer one.
"""

import os

import pytest
from support.compiling import (
    ADDRESSES,
    MUTANTS,
    NEEDS_COMPILER,
    THREADS,
    compiled,
    counted,
    numbers,
    ran,
)

pytestmark = [NEEDS_COMPILER, pytest.mark.timeout(900)]

SECONDS = float(os.environ.get("SANITIZE_SECONDS", "1"))
PLAIN = ("-O2",)


@pytest.mark.parametrize(
    "flags", [PLAIN, THREADS, ADDRESSES], ids=["plain", "threads", "addresses"]
)
def test_nothing_is_torn_and_nothing_reported(tmp_path, flags) -> None:
    done = ran(compiled("threads", tmp_path, *flags), SECONDS)
    seen = numbers(done)
    assert done.stderr == ""
    assert seen["torn"] == seen["lost"] == 0
    # It was a race: readers were lapped, and outrun in reads of the forming bar.
    assert min(seen[name] for name in ("rows", "held", "forming")) > 1000
    assert min(seen[name] for name in ("lapped", "outrun")) > 10


@pytest.mark.parametrize("mutant", ["R4 and R5", "F3 and F4"])
def test_without_a_check_rows_are_torn(tmp_path, mutant) -> None:
    program = compiled("threads", tmp_path, "-O2", change=MUTANTS[mutant])
    done = ran(program, 1)
    assert done.returncode == 1
    assert counted(done.stdout)["torn"] > 0


@pytest.mark.parametrize(
    ("flags", "change", "report"),
    [
        (
            THREADS,
            (
                "atomic_store_explicit(word, value, memory_order_relaxed)",
                "*(volatile int64_t *)word = value",
            ),
            "ThreadSanitizer: data race",
        ),
        (
            THREADS,
            (
                "return atomic_load_explicit(word, memory_order_relaxed)",
                "return *(const volatile int64_t *)word",
            ),
            "ThreadSanitizer: data race",
        ),
        (
            ADDRESSES,
            ("return 2 * slot->capacity", "return 2 * slot->capacity + 1"),
            "AddressSanitizer: heap-buffer-overflow",
        ),
    ],
    ids=["a plain store", "a plain load", "a column too far"],
)
def test_a_broken_access_is_reported(tmp_path, flags, change, report) -> None:
    done = ran(compiled("threads", tmp_path, *flags, change=change), 1)
    assert done.returncode != 0
    assert report in done.stderr
