"""The environment variables that a strategy's process reads."""

import os
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from shmfeed.accounts import OWNER_VARIABLE
from shmfeed.validation import FEED_VARIABLE

COPY_VARIABLE = "SHMFEED_COPY"
LABEL_VARIABLE = "SHMFEED_LABEL"
EXPECT_VARIABLE = "SHMFEED_EXPECT"
MAX_AGE_VARIABLE = "SHMFEED_MAX_AGE"
ON_STALE_VARIABLE = "SHMFEED_ON_STALE"
ON_GAP_VARIABLE = "SHMFEED_ON_GAP"
ON_SHORT_VARIABLE = "SHMFEED_ON_SHORT"
ON_UNCONFIRMED_VARIABLE = "SHMFEED_ON_UNCONFIRMED"
VARIABLES = (
    FEED_VARIABLE,
    COPY_VARIABLE,
    LABEL_VARIABLE,
    EXPECT_VARIABLE,
    OWNER_VARIABLE,
    MAX_AGE_VARIABLE,
    ON_STALE_VARIABLE,
    ON_GAP_VARIABLE,
    ON_SHORT_VARIABLE,
    ON_UNCONFIRMED_VARIABLE,
)


class _Access(NamedTuple):
    """A getter for each variable, a decoder of its value, and the dict of them."""

    getters: tuple[Callable[[], Any], ...]
    decode: Callable[[Any], str]
    table: dict[Any, Any] | None


def _open_access() -> _Access:
    """Return access to the dict inside os.environ or, if it has none, to os.environ.

    os.environ takes a microsecond for a variable that is not set, its dict a fraction
    of it; both show the same variables.
    """
    table = getattr(os.environ, "_data", None)
    encode = getattr(os.environ, "encodekey", None)
    decode = getattr(os.environ, "decodevalue", None)
    if not (isinstance(table, dict) and encode and decode):
        return _Access(tuple(partial(os.environ.get, v) for v in VARIABLES), str, None)
    getters = tuple(partial(table.get, encode(name)) for name in VARIABLES)
    return _Access(getters, decode, table)


_access = _open_access()
TABLE = _access.table  # None if os.environ has no dict inside


def read_variables() -> dict[str, str]:
    """Return the variables that are set, by name."""
    found = {}
    for name, getter in zip(VARIABLES, _access.getters, strict=True):
        value = getter()
        if value is not None:
            found[name] = _access.decode(value)
    return found
