"""From settings to the Redis that they name, with its password and its TLS."""

from shmfeed.relay.redis_connection import RedisTarget
from shmfeed.settings.endpoint import parse_redis
from shmfeed.settings.model import Settings
from shmfeed.wire.tls import tls_context


def redis_target(settings: Settings, address: str) -> RedisTarget:
    """Return the server of a checked address, as it can be reached now.

    The password is read from its file, and TLS uses the settings' certificates, so a
    new connection begins with a new target.

    Raises:
        BadArgumentError: The file of the password cannot be used.
        ConnectionLostError: A file of certificates cannot be used.
    """
    parts = parse_redis(address)
    tls = None
    if parts.is_encrypted:
        tls = tls_context(settings.ca_file, settings.client_cert)
    return RedisTarget(
        parts.host,
        parts.port,
        parts.database,
        parts.user,
        settings.read_redis_password(),
        tls,
    )
