"""From settings to sources."""

from contextlib import closing

import pytest

from shmfeed.codecs import get_codec
from shmfeed.history.command_source import CommandSource
from shmfeed.history.file_source import FileSource
from shmfeed.history.manager_source import ManagerSource
from shmfeed.history.registry import has_own_rest, make_source
from shmfeed.history.rest_source import BinanceSource
from shmfeed.settings.model import Settings

BINANCE = {"protocol": "binance", "market_type": "spot"}


def source_of(**settings):
    given = Settings(**settings)
    return make_source(given, get_codec(given.protocol, given.market_type))


@pytest.mark.parametrize(
    ("settings", "kind", "name", "is_own"),
    [
        (BINANCE, BinanceSource, "REST of binance spot", True),
        (
            BINANCE | {"market_type": "usdm"},
            BinanceSource,
            "REST of binance usdm",
            True,
        ),
        (
            BINANCE | {"backfill": "binance:spot"},
            BinanceSource,
            "REST of binance spot",
            True,
        ),
        (
            BINANCE | {"backfill": "binance:usdm"},
            BinanceSource,
            "REST of binance usdm",
            False,
        ),
        ({"backfill": "binance:spot"}, BinanceSource, "REST of binance spot", False),
        ({"backfill": "a/bars.csv"}, FileSource, "the file a/bars.csv", False),
        ({"backfill": "B.PARQUET"}, FileSource, "the file B.PARQUET", False),
        ({"backfill": ["/bin/bars", "-x"]}, CommandSource, "the command bars", False),
        (
            {"backfill": "manager"},
            ManagerSource,
            "the manager's backfill function",
            False,
        ),
    ],
)
def test_each_source(settings, kind, name, is_own):
    with closing(source_of(**settings)) as source:
        assert isinstance(source, kind)
        assert (source.name, source.is_own) == (name, is_own)


@pytest.mark.parametrize(
    "settings", [{}, {"backfill": "off"}, BINANCE | {"backfill": "off"}]
)
def test_no_source(settings):
    assert source_of(**settings) is None


@pytest.mark.parametrize(
    ("endpoint", "market", "known"),
    [
        ("wss://stream.testnet.binance.vision", "spot", False),
        ("wss://stream.testnet.binance.vision", "testnet", True),
        ("wss://stream.binance.com", "testnet", False),
        ("wss://fstream.binance.com/market", "spot", False),
        ("wss://fstream.binance.com/market", "binance-usdm", True),
        ("wss://dstream.binance.com", "usdm", False),
        ("wss://dstream.binance.com", "coinm", True),
    ],
)
def test_another_markets_rest_is_not_the_feeds_own(endpoint, market, known):
    given = {"protocol": "binance", "market_type": market, "endpoint": endpoint}
    assert has_own_rest(Settings(**given)) == known
    assert (source_of(**given) is not None) == known


@pytest.mark.parametrize("rest", [[], ["http://127.0.0.1:1"]])
def test_binance_itself_does_not_correct_another_hosts_bars(rest):
    given = BINANCE | {"endpoint": "ws://127.0.0.1:18000", "backfill": "binance:spot"}
    with closing(source_of(**given, rest_endpoint=rest)) as source:
        assert source.is_own == bool(rest)


@pytest.mark.parametrize(
    ("endpoint", "known"),
    [
        ("wss://stream.binance.com:443", True),
        ("wss://data-stream.binance.vision", True),
        ("ws://127.0.0.1:18000", False),
        ("wss://binance.com.example", False),
        ("wss://notbinance.com", False),
    ],
)
def test_the_rest_of_binance_is_that_of_its_own_endpoints(endpoint, known):
    given = BINANCE | {"endpoint": endpoint}
    assert has_own_rest(Settings(**given)) == known
    source = source_of(**given)
    assert (source is not None) == known
    if source is not None:
        source.close()
    with closing(source_of(**given, rest_endpoint="http://127.0.0.1:1")) as source:
        assert source is not None
