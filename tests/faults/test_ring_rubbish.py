"""The readers of the C protocol on words of any value, under sanitizers."""

import pytest
from support.compiling import ADDRESSES, NEEDS_COMPILER, compiled, numbers, ran

pytestmark = NEEDS_COMPILER


def test_readers_stay_within_the_ring(tmp_path) -> None:
    done = ran(compiled("damaged", tmp_path, *ADDRESSES), 5000)
    seen = numbers(done)
    assert done.stderr == ""
    assert seen["read"] > seen["segments"] == 5000


@pytest.mark.parametrize(
    ("change", "report"),
    [
        (
            ("__builtin_sub_overflow(a, b, &difference)", "(difference = a - b, 0)"),
            "signed integer overflow",
        ),
        (
            ("row % slot->capacity", "row % (2 * slot->capacity)"),
            "AddressSanitizer: heap-buffer-overflow",
        ),
    ],
    ids=["a difference that overflows", "a row too far"],
)
def test_a_broken_reader_is_reported(tmp_path, change, report) -> None:
    done = ran(compiled("damaged", tmp_path, *ADDRESSES, change=change), 5000)
    assert done.returncode != 0
    assert report in done.stderr
