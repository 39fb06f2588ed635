"""From settings to the source of history that they name."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from shmfeed.bar_files import ENDINGS
from shmfeed.codecs.interface import Codec
from shmfeed.history import binance
from shmfeed.history.command_source import CommandSource
from shmfeed.history.file_source import FileSource
from shmfeed.history.interface import HistorySource
from shmfeed.history.manager_source import ManagerSource
from shmfeed.history.rest_budget import RestBudget
from shmfeed.history.rest_source import BinanceSource
from shmfeed.segment.mapping import place
from shmfeed.settings.backfill import AUTO, MANAGER, OFF, REST_MARKETS
from shmfeed.settings.model import Settings
from shmfeed.wire.connect import policy_of
from shmfeed.wire.http_client import HttpClient

_OWN_DOMAINS = (".binance.com", ".binance.vision")
# Hosts of one market alone, by a part of the name; any other is spot's.
_MARKET_HOSTS = {"testnet": "testnet", "fstream": "usdm", "dstream": "coinm"}

Current = Callable[[], Settings]


def make_source(
    settings: Settings, codec: Codec, current: Current | None = None
) -> HistorySource | None:
    """Return the source that the settings name, or None without one.

    Nothing is asked for yet. `close` of the source ends it.

    Args:
        settings: The settings.
        codec: The codec of the feed.
        current: Returns the settings in force, after a reload; the way to the source,
            and what is secret, may change.
    """
    current = current or (lambda: settings)
    wanted = settings.backfill
    if wanted == OFF:
        return None
    if not isinstance(wanted, str):
        return CommandSource(wanted, redact=lambda text: current().redact(text))
    if wanted == MANAGER:
        return ManagerSource()
    if wanted.lower().endswith(ENDINGS):
        return FileSource(wanted)
    return _rest(settings, wanted, codec, current)


def _rest(
    settings: Settings, wanted: str, codec: Codec, current: Current
) -> HistorySource | None:
    own = f"{codec.name}:{codec.market_type}"
    if wanted != AUTO:
        market = wanted.partition(":")[2]
        is_own = wanted == own and has_own_rest(settings)
        return _binance(settings, market, is_own, current)
    if codec.name in REST_MARKETS and has_own_rest(settings):
        return _binance(settings, codec.market_type, True, current)
    return None


def has_own_rest(settings: Settings) -> bool:
    """Return True if the REST service of a feed of Binance's is known.

    The WebSocket of another host, as of a simulator, is not Binance's, and Binance's
    bars are not its own. Nor are those of another market, as spot's for the testnet.
    """
    market = settings.market_type.removeprefix(f"{settings.protocol}-")
    hosts = [urlsplit(url).hostname or "" for url in settings.endpoint]
    is_own = all(
        host.endswith(_OWN_DOMAINS) and _market_at(host) == market for host in hosts
    )
    return bool(settings.rest_endpoint) or is_own


def _market_at(host: str) -> str:
    """Return the market that a host of Binance's serves."""
    found = (market for part, market in _MARKET_HOSTS.items() if part in host)
    return next(found, "spot")


def _binance(
    settings: Settings, market: str, is_own: bool, current: Current
) -> BinanceSource:
    known = binance.MARKETS[market]
    clients = [
        HttpClient(_without(base, known.path), lambda: policy_of(current()))
        for base in settings.rest_endpoint or known.hosts
    ]
    budget = RestBudget(_locks(settings), settings.rest_share)
    return BinanceSource(
        market,
        clients,
        budget,
        is_own=is_own,
        redact=lambda text: current().redact(text),
    )


def _without(base: str, path: str) -> str:
    """Return a base address, which may end with the path that each request begins."""
    address, mark, query = base.partition("?")
    return address.rstrip("/").removesuffix(path) + mark + query


def _locks(settings: Settings) -> Path:
    """Return the directory of this user's locks."""
    return place(settings.feed).directory
