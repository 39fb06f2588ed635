"""Text for messages: each function keeps to one line and to its limit."""

from collections.abc import Iterator

import pytest

from shmfeed.text import counted, mebibytes, one_line, printable, repr_short, shorten


class Unspeakable:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("BTCUSDT", "'BTCUSDT'"),
        (None, "None"),
    ],
)
def test_a_value_has_a_short_repr(value, text) -> None:
    assert repr_short(value) == text


def test_an_int_of_too_many_digits_is_named_by_its_type() -> None:
    assert repr_short(10**5000) == "an int"


def test_a_value_without_a_repr_has_one() -> None:
    assert "Unspeakable" in repr_short(Unspeakable())


def test_a_long_value_is_cut() -> None:
    assert len(repr_short("x" * 10_000)) <= 80
    assert len(repr_short(["x" * 10_000] * 100)) < 1000


@pytest.mark.parametrize("limit", [40, 600])
def test_a_long_text_loses_its_middle(limit) -> None:
    text = "begin " + "x" * 10_000 + " end"
    assert shorten("x" * limit, limit) == "x" * limit
    assert len(shorten(text, limit)) <= limit
    assert shorten(text, limit).startswith("begin ")
    assert shorten(text, limit).endswith(" end")


def test_what_is_not_printable_is_escaped() -> None:
    assert printable("a\tb\x1b[0m\u2028\udcff\u00e9") == r"a\tb\x1b[0m\u2028\udcffé"


def test_a_peer_fills_one_line_at_most() -> None:
    assert one_line("  a\r\n\tb\x00 c  ") == "a b c"
    assert one_line("x" * 300) == "x" * 300
    assert one_line("x" * 301) == "x" * 297 + "..."
    assert len(one_line("x y " * 999, 80)) <= 80


def test_a_peer_cannot_make_a_line_costly() -> None:
    """Only the beginning of a long text is looked at."""

    class Counted(str):
        __slots__ = ()
        looked_at = 0

        def __getitem__(self, key: object) -> str:
            Counted.looked_at += len(part := str.__getitem__(self, key))
            return part

        def __iter__(self) -> Iterator[str]:
            raise AssertionError("the whole text was looked at")

    assert one_line(Counted("x\n" * (1 << 19))).endswith("...")
    assert Counted.looked_at <= 1200


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0.00"), (1 << 19, "0.50"), (3 << 30, "3,072.00")]
)
def test_mebibytes(size, text) -> None:
    assert mebibytes(size) == text


def test_a_number_has_its_noun_in_singular_or_plural() -> None:
    assert [counted(number, "bar") for number in (0, 1, 2)] == [
        "0 bars",
        "1 bar",
        "2 bars",
    ]
    assert counted(1, "strategy", "strategies") == "1 strategy"
    assert counted(2, "strategy", "strategies") == "2 strategies"
