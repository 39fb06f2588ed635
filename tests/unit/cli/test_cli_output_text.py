"""Times, spans and tables as text."""

import pytest

from shmfeed.cli.output import aligned, iso, span


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (None, "-"),
        (0, "1970-01-01T00:00:00Z"),
        (1_704_067_200_000, "2024-01-01T00:00:00Z"),
        (1_704_067_200_007, "2024-01-01T00:00:00.007Z"),
        (4_102_444_799_000, "2099-12-31T23:59:59Z"),
    ],
)
def test_iso(time, text) -> None:
    assert iso(time) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.04, "0.0 s"),
        (59.9, "59.9 s"),
        (60, "1m 0s"),
        (3599.9, "59m 59s"),
        (3600, "1h 0m"),
        (86_399, "23h 59m"),
        (200_000, "2d 7h"),
    ],
)
def test_span(seconds, text) -> None:
    assert span(seconds) == text


def test_aligned() -> None:
    rows = [("NAME", "N"), ("a", "1,000"), ("bcdef", "7")]
    assert aligned(rows, right={1}) == [
        "NAME       N",
        "a      1,000",
        "bcdef      7",
    ]
    assert aligned(rows)[2] == "bcdef  7"
