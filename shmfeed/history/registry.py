"""From settings to the source of history that they name."""

import logging
from pathlib import Path
from urllib.parse import urlsplit

from shmfeed.codecs.interface import Codec
from shmfeed.history import binance
from shmfeed.history.command_source import CommandSource
from shmfeed.history.file_source import FileSource
from shmfeed.history.http_client import HttpClient
from shmfeed.history.interface import HistorySource
from shmfeed.history.manager_source import ManagerSource
from shmfeed.history.rest_budget import RestBudget
from shmfeed.history.rest_source import BinanceSource
from shmfeed.segment.mapping import place
from shmfeed.settings.backfill import AUTO, FILE_ENDINGS, MANAGER, OFF, REST_MARKETS
from shmfeed.settings.model import Settings
from shmfeed.wire.connect import policy_of

_OWN_DOMAINS = (".binance.com", ".binance.vision")

log = logging.getLogger(__name__)


def make_source(settings: Settings, codec: Codec) -> HistorySource | None:
    """Return the source that the settings name, or None without one.

    Nothing is asked for yet. `close` of the source ends it.
    """
    wanted = settings.backfill
    if wanted == OFF:
        return None
    if not isinstance(wanted, str):
        return CommandSource(wanted, redact=settings.redact)
    if wanted == MANAGER:
        return ManagerSource()
    if wanted.lower().endswith(FILE_ENDINGS):
        return FileSource(wanted)
    return _rest(settings, wanted, codec)


def _rest(settings: Settings, wanted: str, codec: Codec) -> HistorySource | None:
    own = f"{codec.name}:{codec.market_type}"
    if wanted != AUTO:
        return _binance(settings, wanted.partition(":")[2], is_own=wanted == own)
    if codec.name in REST_MARKETS and _serves_rest(settings):
        return _binance(settings, codec.market_type, is_own=True)
    return None


def _serves_rest(settings: Settings) -> bool:
    """Return True if the feed's own REST service is known.

    The WebSocket of another host, as of a simulator, is not Binance's, and Binance's
    bars are not its own.
    """
    if settings.rest_endpoint:
        return True
    hosts = [urlsplit(url).hostname or "" for url in settings.endpoint]
    known = all(host.endswith(_OWN_DOMAINS) for host in hosts)
    if not known:
        log.info("no history: give the venue's rest_endpoint beside its endpoint")
    return known


def _binance(settings: Settings, market: str, *, is_own: bool) -> BinanceSource:
    bases = settings.rest_endpoint or binance.MARKETS[market].hosts
    policy = policy_of(settings)
    clients = [HttpClient(base, policy) for base in bases]
    budget = RestBudget(_locks(settings), settings.rest_share)
    return BinanceSource(market, clients, budget, is_own=is_own, redact=settings.redact)


def _locks(settings: Settings) -> Path | None:
    """Return the directory of this user's locks, None before the first feed."""
    directory = place(settings.feed).directory
    return directory if directory.is_dir() else None
