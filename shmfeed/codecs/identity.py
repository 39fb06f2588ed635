"""The identity that a feeder's settings give its feed."""

from urllib.parse import urlsplit

from shmfeed.codecs.registry import get_codec
from shmfeed.identity import FeedIdentity, make_identity
from shmfeed.settings.model import Settings


def identity_of(settings: Settings) -> FeedIdentity:
    """Return the identity of the feed that these settings describe.

    The venue is the setting `venue`, else the hosts of the endpoints. Settings of a
    follower know only the name of its feed in Redis, which takes the market's place.

    Raises:
        BadArgumentError: The protocol has no such market, or an endpoint is refused.
    """
    if settings.follows_relay:
        return make_identity(settings.protocol, settings.source_name, ())
    codec = get_codec(settings.protocol, settings.market_type)
    if settings.venue is not None:
        names = settings.venue.split(",")
    else:
        urls = codec.endpoints(settings.endpoint, settings.port)
        names = [urlsplit(url).hostname or "" for url in urls]
    return make_identity(codec.name, codec.market_type, names)
