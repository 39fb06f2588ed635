"""Digests of settings: a feeder and a manager compare settings without showing them."""

import hmac
from collections.abc import Mapping

import msgspec

from shmfeed.settings.model import Settings
from shmfeed.settings.schema import SETTINGS

# A manager hands over its streams, and an identity may be written in several ways.
_OF_THE_FEED = {"feed", "symbols", "resolutions", "protocol", "market_type", "venue"}
_OF_A_MANAGER = {"stuck_timeout", "launch", "name", "manager_linger"}


def digests(settings: Settings, nonce: str) -> dict[str, str]:
    """Return a keyed digest of each setting whose value may differ in a feeder.

    `nonce` is new for each comparison, so that no digest of a secret is of use later.
    """
    return {
        name: _digest(getattr(settings, name), nonce)
        for name in SETTINGS
        if name not in _OF_THE_FEED | _OF_A_MANAGER
    }


def differing(
    settings: Settings, others: Mapping[str, object], nonce: str
) -> list[str]:
    """Return the names of settings whose digests are not those of `others`.

    A setting that the other version does not know is left out.
    """
    mine = digests(settings, nonce)
    return [name for name in mine if name in others and others[name] != mine[name]]


def _digest(value: object, nonce: str) -> str:
    text = msgspec.json.encode(value)
    return hmac.new(nonce.encode(), text, "sha256").hexdigest()
