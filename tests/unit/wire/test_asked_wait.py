"""The wait that a venue asks for, in a field or in words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmfeed.wire.asked_wait import (
    DEFAULT_WAIT,
    MAX_WAIT,
    parse_http_date,
    wait_of_answer,
    wait_of_error,
    wait_of_words,
)
from shmfeed.wire.errors import parse_close

NOW = 1_659_146_400_000  # ms; Sat, 30 Jul 2022 02:00:00 GMT


@pytest.mark.parametrize(
    ("code", "fields", "words", "wait"),
    [
        (429, ["60"], "", 60),
        (503, ["7"], "", 7),
        (418, ["Sat, 30 Jul 2022 02:01:30 GMT"], "", 90),
        (429, ["Saturday, 30-Jul-22 02:00:05 GMT"], "", 5),
        (429, ["Sat Jul 30 02:00:06 2022"], "", 6),
        (429, ["5", "60"], "", 60),
        (429, ["0"], "", 0),
        (429, ["2.5"], "", 2.5),
        (429, ["2.5.1"], "", DEFAULT_WAIT),
        (429, ["99999999999999999"], "", MAX_WAIT),
        (503, ["Sat, 30 Jul 2022 01:00:00 GMT"], "", 0),
        (429, [], "", DEFAULT_WAIT),
        (418, [], "slow down", DEFAULT_WAIT),
        (429, ["soon"], "", DEFAULT_WAIT),
        (429, ["-5"], "", DEFAULT_WAIT),
        (403, [], "", 0),
        (403, ["600"], "", 600),
        (503, [], "", 0),
        (418, [], "IP banned until 1659146520000. Use the stream", 120),
        (403, [], "blocked until 1659146430", 30),
        (418, [], "IP banned until 1000000000000", DEFAULT_WAIT),
    ],
)
def test_a_field_comes_before_words_and_words_before_the_default(
    code, fields, words, wait
):
    assert wait_of_answer(code, fields, words, NOW) == wait


@pytest.mark.parametrize(
    ("words", "wait"),
    [
        ('{"code":-1003,"msg":"IP(1.2.3.4) banned until 1659146520000."}', 120),
        ('{"data":{"serverTime":1659146400000,"retryAfter":1659146401500}}', 1.5),
        ("Rate limit exceeded, retry in 5 seconds.", 5),
        ("please try again in 5 minutes", 300),
        ('{"message":"You are being rate limited.","retry_after":1.5}', 1.5),
        ('{"retryAfter": "30"}', 30),
        ('{"retryAfter": 30.5.1}', 0),
        ("Retry after 250ms", 0.25),
        ("wait 2 h", 7200),
        ("Banned for 10 min", 600),
        ("blocked until 2022-07-30T02:00:10Z", 10),
        ("blocked until 2022-07-30 02:00:10", 10),
        ("banned till 2022-07-30T04:00:10+02:00", 10),
        ("banned until 2022-99-30T04:00:10", 0),
        ("no pong for 10 minutes", 0),
        ("connection closed after 30 s of silence", 0),
        ("limit 1200 per 1 minute", 0),
        ("", 0),
    ],
)
def test_words_that_name_a_time_are_understood(words, wait):
    assert wait_of_words(words, NOW) == wait


@given(st.text(max_size=60), st.integers(100, 999), st.lists(st.text(max_size=40)))
def test_any_answer_asks_for_a_wait_within_the_limit(words, code, fields):
    assert 0 <= wait_of_answer(code, fields, words) <= MAX_WAIT


@pytest.mark.parametrize(
    "text", ["", "x", "Sat, 30 Jul 99999 02:00:00 GMT", "1659146400", "\0" * 50]
)
def test_a_text_that_is_no_date_gives_none(text):
    assert parse_http_date(text) is None


@pytest.mark.parametrize(
    ("payload", "text", "wait"),
    [
        (b"\x03\xf5", "1013 try again later", DEFAULT_WAIT),
        (b"\x03\xf5retry in 5 s", "1013 retry in 5 s", 5),
        (b"\x03\xf0", "1008 policy violation", 0),
        (b"\x03\xf0too many; wait 3 minutes", "1008 too many; wait 3 minutes", 180),
        (b"\x03\xe9wait 3 minutes", "1001 wait 3 minutes", 0),
        (b"\x0f\xa0", "4000", 0),
    ],
)
def test_close_codes_have_words_and_may_ask_for_a_wait(payload, text, wait):
    error = parse_close(payload)
    assert str(error) == f"the server closed the connection: {text}"
    assert error.retry_after == wait


@pytest.mark.parametrize(
    ("words", "wait"),
    [
        ("Too many requests, retry in 7 seconds", 7),
        ("Way too many requests; IP banned for 2 minutes.", 120),
        ("under maintenance, try again in 5 minutes", 300),
        ("XYZ is not listed yet, try again in 3 days", 0),  # a symbol's alone
        ("too many requests", 0),
    ],
)
def test_an_error_keeps_the_client_away_only_if_it_is_about_the_client(words, wait):
    assert wait_of_error(words) == wait
