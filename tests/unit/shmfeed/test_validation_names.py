"""Symbols and feed names: accepted ones, and refusals that show the value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmfeed.errors import BadArgumentError
from shmfeed.validation import check_feed_name, check_symbol


@given(st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._:/-]{0,47}\Z"))
def test_symbols_that_match(symbol: str) -> None:
    assert check_symbol(symbol) == symbol


@given(st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,31}\Z"))
def test_feed_names_that_match(name: str) -> None:
    assert check_feed_name(name) == name


def test_the_longest_names() -> None:
    assert check_symbol("A" * 48)
    assert check_feed_name("A" * 32)


WRONG = [
    "",
    " ",
    ".",
    "..",
    "-a",
    "/a",
    "a b",
    "a\n",
    "\na",
    "a\0",
    "Ä",
    "é",
    "٣",
    "a\\b",
]


@pytest.mark.parametrize("symbol", [*WRONG, "A" * 49, ":A", None, 7, b"BTC", ["BTC"]])
def test_refused_symbols(symbol: object) -> None:
    with pytest.raises(BadArgumentError) as caught:
        check_symbol(symbol)
    assert "symbol" in str(caught.value)
    assert repr(symbol) in str(caught.value)


@pytest.mark.parametrize(
    "name", [*WRONG, "A" * 33, "a/b", "../a", "a:b", None, 7, b"feed", ("feed",)]
)
def test_refused_feed_names(name: object) -> None:
    with pytest.raises(BadArgumentError) as caught:
        check_feed_name(name)
    assert "feed name" in str(caught.value)
    assert repr(name) in str(caught.value)


@given(st.text(max_size=60))
def test_nothing_accepted_leaves_its_directory(text: str) -> None:
    try:
        name = check_feed_name(text)
    except BadArgumentError:
        return
    assert "/" not in name
    assert "\0" not in name
    assert name not in (".", "..")
