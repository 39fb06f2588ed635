"""Users and groups of this host, by name or number.

The module loads nothing of the host until a name is asked for: a reader of its own
feeds needs none.
"""

import os
from collections.abc import Callable
from contextlib import suppress

from shmfeed.errors import BadArgumentError
from shmfeed.text import repr_short

OWNER_VARIABLE = "SHMFEED_OWNER"
_MOST_ID = (1 << 32) - 2  # the one above stands for "unchanged"


def chosen_owner(owner: object = None, name: str = "owner") -> int | None:
    """Return the user whose feeds are read; None for this process's own.

    It is `owner`, else that of the environment's SHMFEED_OWNER. Raises
    BadArgumentError for a user that this host does not know.
    """
    if owner is not None:
        return check_owner(name, owner)
    variable = os.environ.get(OWNER_VARIABLE)
    return check_owner(OWNER_VARIABLE, variable) if variable else None


def check_owner(name: str, value: object) -> int:
    """Return the number of a user, given by name or number."""
    return _check_account(name, value, "user", _user_of)


def user_name(number: int) -> str:
    """Return the name of a user, or the number where this host has no name for it."""
    import pwd  # noqa: PLC0415 # Windows has none

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def check_group(value: object) -> str:
    """Return a group as it is given, by name or number, if this host knows it."""
    group_number(value)
    return str(value)


def group_number(value: object) -> int:
    """Return the number of a group, given by name or number."""
    return _check_account("group", value, "group", _group_of)


def may_give_to(group: int) -> bool:
    """Return True if this process may give a file to a group."""
    return os.geteuid() == 0 or group in {os.getegid(), *os.getgroups()}


def _check_account(
    name: str, value: object, kind: str, find: Callable[[str], int]
) -> int:
    text = str(value) if type(value) is int else value
    if isinstance(text, str) and text.isprintable() and 0 < len(text) <= 256:
        with suppress(KeyError, ImportError):  # Windows has no such lists
            return find(text)
        if text.isascii() and text.isdigit() and int(text) <= _MOST_ID:
            return int(text)  # a container may have no name for it
    raise BadArgumentError(
        f"{name} is {repr_short(value)}; this host has no {kind} of that name, and it"
        f" is no number of one; it must be the name or the number of a {kind}"
    )


def _user_of(name: str) -> int:
    import pwd  # noqa: PLC0415 # Windows has none

    return pwd.getpwnam(name).pw_uid


def _group_of(name: str) -> int:
    import grp  # noqa: PLC0415 # as above

    return grp.getgrnam(name).gr_gid
