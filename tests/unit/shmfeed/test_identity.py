"""The identity of a feed: its text, and which two are the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmfeed.codecs.identity import identity_of
from shmfeed.errors import BadArgumentError
from shmfeed.identity import FeedIdentity, make_identity, parse_identity
from shmfeed.settings.model import Settings

names = st.text("abcXYZ019._-", min_size=1, max_size=20)
identities = st.builds(
    FeedIdentity, names, names, st.lists(names, max_size=4).map(tuple)
)


@given(identities)
def test_text_holds_the_whole_identity(identity: FeedIdentity) -> None:
    assert parse_identity(str(identity)) == identity


@pytest.mark.parametrize("text", ["", "a", "a/b", "a/b/c/d", "//", "a//c", "/b/c"])
def test_other_texts_are_no_identity(text: str) -> None:
    assert parse_identity(text) is None


ONE = FeedIdentity("binance", "usdm", ("a.com", "b.com"))


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (ONE, True),
        (ONE._replace(venues=("b.com", "c.com")), True),
        (ONE._replace(venues=("c.com",)), False),
        (ONE._replace(venues=()), True),  # not known
        (ONE._replace(market_type="coinm"), False),
        (ONE._replace(protocol="wealthai"), False),
    ],
)
def test_one_venue_in_common_is_enough(other: FeedIdentity, same: bool) -> None:
    assert ONE.matches(other) is other.matches(ONE) is same


def test_the_case_of_a_venue_does_not_count() -> None:
    assert make_identity("p", "m", ["A.com", "a.COM.", "b"]).venues == ("a.com", "b")


def test_as_many_venues_as_fit_are_kept() -> None:
    long = make_identity("p", "m", [f"{number}.example.com" for number in range(99)])
    short = long.shortened(100)
    assert len(str(short)) <= 100 < len(str(long))
    assert short.matches(long)
    assert short.venues == long.venues[: len(short.venues)]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({}, "wealthai/binance-testnet/ws.wealthai.cc"),
        (
            {"endpoint": ["wss://A.com:1/x?key=s", "wss://a.com:2", "wss://[::1]:3"]},
            "wealthai/binance-testnet/a.com,::1",
        ),
        ({"venue": "Mine"}, "wealthai/binance-testnet/mine"),
        (
            {"protocol": "binance", "market_type": "binance-usdm"},
            "binance/usdm/fstream.binance.com",
        ),
        (
            {"protocol": "binance", "market_type": "usdm"},
            "binance/usdm/fstream.binance.com",
        ),
    ],
)
def test_the_identity_of_settings(settings: dict[str, object], text: str) -> None:
    assert str(identity_of(Settings(**settings))) == text


def test_a_market_that_does_not_exist_has_no_identity() -> None:
    with pytest.raises(BadArgumentError, match="market_type 'moon'"):
        identity_of(Settings(protocol="binance", market_type="moon"))
