"""The Redis servers that the settings name: whether the relay can use them."""

import re
from collections.abc import Iterator
from contextlib import closing

from shmfeed.doctor.finding import Finding, note, ok, problem
from shmfeed.errors import ShmfeedError
from shmfeed.relay.engine import EngineAwayError
from shmfeed.relay.redis_connection import RedisConnection, RedisTarget
from shmfeed.relay.redis_engine import RedisEngine
from shmfeed.relay.redis_target import redis_target
from shmfeed.settings.endpoint import is_redis, redact
from shmfeed.settings.model import Settings

_VERSION = re.compile(rb"^(redis|valkey)_version:(\S+)", re.MULTILINE)


def check_relay(settings: Settings) -> Iterator[Finding]:
    """Yield the findings about each Redis that is followed, or published to.

    Each is asked, over the network; without such a setting nothing is.
    """
    addresses = [address for address in settings.endpoint if is_redis(address)]
    if settings.publish_to is not None:
        addresses.append(settings.publish_to)
    for address in addresses:
        name = redact(address)
        try:
            target = redis_target(settings, address)
            version = _version_of(target)
            with closing(RedisEngine(settings.source_name, target)) as engine:
                warnings = engine.warnings()
        except EngineAwayError as error:
            yield problem(name, str(error), "start it, or correct the address")
        except ShmfeedError as error:
            yield problem(name, str(error), "correct it; the relay does not work so")
        else:
            yield ok(name, version)
            for warning in warnings:
                yield note(name, warning, "CONFIG SET maxmemory-policy noeviction")


def _version_of(target: RedisTarget) -> str:
    """Return the product and the version of a server, which must answer."""
    with closing(RedisConnection(target)) as connection:
        connection.call("PING")
        try:
            facts = connection.call("INFO", "server")
        except ShmfeedError:  # some providers keep it for themselves
            return "it answers, and does not tell its version"
    # Valkey tells a version of Redis too, before its own.
    product, version = (_VERSION.findall(facts) or [(b"redis", b"?")])[-1]
    return f"{product.decode().capitalize()} {version.decode('ascii', 'replace')}"
