"""The settings of the relay: the feed that is published, or followed, by Redis."""

import importlib.util

from shmfeed.errors import BadArgumentError
from shmfeed.settings import endpoint
from shmfeed.settings.kinds import (
    Setting,
    check_secret,
    naming_accepted,
    seconds,
    text_setting,
)
from shmfeed.settings.secret_files import check_secret_file
from shmfeed.validation import check_feed_name

MARKET = "relayed"  # the market of that protocol, which is the leader's to know
PASSWORD = "redis_password"  # noqa: S105  the setting's name, not its value
PASSWORD_FILE = "redis_password_file"  # noqa: S105  as above

_FILE = "the path of a file whose only line is the password"
MISSING_PACKAGES = (
    "the relay needs the packages redis and hiredis: pip install redis hiredis"
)


def check_installed() -> None:
    """Raise BadArgumentError if the client of Redis is not installed."""
    if importlib.util.find_spec("redis") is None:
        raise BadArgumentError(MISSING_PACKAGES)


def _check_publish_to(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    address = endpoint.check_redis(value)
    check_installed()
    return address


def _check_password_file(value: object) -> str:
    return check_secret_file("file", value)


PUBLISH_TO = text_setting(
    endpoint.REDIS_ACCEPTED,
    _check_publish_to,
    "Redis that other hosts follow this feed by",
    none="publish nowhere",
)
FLUSH_INTERVAL = seconds("time between two flushes of forming bars to Redis", high=60.0)
SOURCE_FEED = text_setting(
    "the name of a feed",
    check_feed_name,
    "name in Redis of the feed to follow",
    none="the name of the feed here",
)
REDIS_PASSWORD: Setting = text_setting(
    "text of at most 4096 printable characters, no space around it",
    check_secret,
    "password for Redis",
)
REDIS_PASSWORD_FILE = text_setting(
    _FILE,
    naming_accepted(_check_password_file, _FILE),
    "file with the password for Redis",
    none=PASSWORD,
    annotation="str | os.PathLike[str]",
)
