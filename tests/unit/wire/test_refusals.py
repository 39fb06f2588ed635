"""The search for the symbols that a venue refuses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmfeed.wire.refusals import RefusalSearch

SYMBOLS = [f"SYM{number}" for number in range(64)]


def streams(symbols, timeframes=("1m",)):
    return tuple((s, t) for s in symbols for t in timeframes)


def searched(asked, bad, *, named=True, may_halve=True):
    """Return the search, the streams served in the end, and the number of requests."""
    search = RefusalSearch(asked, may_halve=may_halve)
    served, requests, request = None, 0, asked
    while request is not None:
        requests += 1
        refused = [symbol for symbol, _ in request if symbol in bad]
        if refused:
            words = f"unknown symbol {refused[0]}" if named else "bad request"
            request = search.refuse(words)
            served = None if request is None else served
        else:
            served = request  # a request replaces the one before
            request = search.accept()
    return search, served, requests


def test_a_named_symbol_is_left_out_with_all_its_streams():
    asked = streams(["A1", "B2"], ("1m", "1h"))
    search, served, requests = searched(asked, {"B2"})
    assert served == streams(["A1"], ("1m", "1h"))
    assert set(search.left_out) == set(streams(["B2"], ("1m", "1h")))
    assert requests == 2
    [event] = search.refused()
    assert event.streams == streams(["B2"], ("1m", "1h"))
    assert "B2" in event.message


def test_a_field_of_the_refusal_names_the_symbol():
    search = RefusalSearch(streams(["A1", "B2"]))
    assert search.refuse("not here", "A1") == streams(["B2"])


def test_a_field_spares_the_symbols_of_the_words():
    search = RefusalSearch(streams(["A1", "B2"]))
    assert search.refuse("unknown symbol; you asked for A1 B2", "A1") == streams(["B2"])


def test_words_that_repeat_the_request_name_no_symbol():
    search, asked = RefusalSearch(streams(SYMBOLS)), streams(SYMBOLS)
    served = None
    while asked:
        symbols = [symbol for symbol, _ in asked]
        if "SYM9" in symbols:
            asked = search.refuse(f"cannot serve {symbols}")
        else:
            served, asked = asked, search.accept()
    assert set(search.left_out) == set(streams(["SYM9"]))
    assert set(served) == set(streams(SYMBOLS)) - set(streams(["SYM9"]))


def test_a_symbol_that_the_words_suggest_is_served():
    search = RefusalSearch(streams(["BTCUSDT", "BTCUSDTT"]))
    words = "no such symbol in your request; did you mean BTCUSDT?"
    assert search.refuse(words) == streams(["BTCUSDT"])
    assert search.accept() == streams(["BTCUSDTT"])
    assert search.refuse(words) == streams(["BTCUSDT"])
    assert search.accept() is None
    assert set(search.left_out) == set(streams(["BTCUSDTT"]))


def test_a_limit_of_streams_is_a_failure_and_no_symbols_fault():
    request, requests = streams(SYMBOLS), 0
    search = RefusalSearch(request)
    while request is not None:
        requests += 1
        if len(request) > 20:
            request = search.refuse("too many streams, at most 20")
        else:
            request = search.accept()
    assert not search.left_out
    assert search.asked == streams(SYMBOLS)
    assert search.refusal == "too many streams, at most 20"
    assert requests <= 8


def test_a_refusal_of_everything_is_a_failure():
    assert searched(streams(["A1"]), {"A1"})[1] is None
    assert searched(streams(["A1", "B2"]), {"A1", "B2"})[1] is None
    _, served, requests = searched(streams(SYMBOLS), set(SYMBOLS), named=False)
    assert served is None
    assert requests <= 16


def test_without_halving_an_unnamed_refusal_is_a_failure():
    _, served, requests = searched(
        streams(SYMBOLS), {"SYM3"}, named=False, may_halve=False
    )
    assert (served, requests) == (None, 1)


@given(st.sets(st.sampled_from(SYMBOLS), max_size=3), st.booleans())
def test_what_the_venue_accepts_is_served(bad, named):
    asked = streams(SYMBOLS)
    search, served, requests = searched(asked, bad, named=named)
    assert set(served) == {key for key in asked if key[0] not in bad}
    assert {symbol for symbol, _ in search.left_out} == bad
    assert requests <= 1 + len(bad) * (1 if named else 16)


@pytest.mark.parametrize("symbols", [["A1", "B2"], SYMBOLS])
def test_without_a_refusal_one_request_is_enough(symbols):
    search, served, requests = searched(streams(symbols), set())
    assert (served, requests, search.left_out) == (streams(symbols), 1, {})
