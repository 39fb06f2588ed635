"""The status of a feed's relay to other hosts, as its feeder publishes it."""

from typing import Any, TypedDict, cast

from shmfeed.memory.note import read_facts
from shmfeed.segment.mapping import Mapping
from shmfeed.text import counted, format_ms

RELAY = "relay"  # the key of the facts, and of a status
ROLES = ("leader", "standby", "follower")
_EMPTY = {"leader": "", "epoch": 0, "since": 0, "error": ""}  # told for: not known
# The values that a key may have beside None. A float of JSON may have no point.
_TYPES: dict[str, tuple[type, ...]] = {
    "leader": (str,),
    "epoch": (int,),
    "since": (int,),
    "lag": (float, int),
    "behind": (int,),
    "error": (str,),
}


class RelayStatus(TypedDict):
    """The relay of a feed, at the host that publishes it or at one that follows it.

    A value that is not known is None.
    """

    role: str  #: leader, standby or follower: the role of this host
    leader: str | None  #: host:pid of the leader's publisher
    epoch: int | None  #: the number of the leadership; a later one is larger
    since: int | None  #: ms UTC, by the leader's clock, since when it leads
    #: seconds from the leader's publishing to here; at the leader, of its last flush
    lag: float | None
    #: flushes not yet taken here; at the leader, attempts failed since its last flush
    behind: int | None
    error: str | None  #: the reason why the relay does not work


def relay_in(mapping: Mapping) -> RelayStatus | None:
    """Return the status that a segment's last feeder has published, None without one.

    Empty values, and those of another type, as of another version, are None.
    """
    told = read_facts(mapping.words, mapping.geometry).get(RELAY)
    if not isinstance(told, dict) or told.get("role") not in ROLES:
        return None
    found: dict[str, Any] = {"role": told["role"]}
    for key, types in _TYPES.items():
        value = told.get(key)
        is_known = isinstance(value, types) and not isinstance(value, bool)
        found[key] = value if is_known and value != _EMPTY.get(key) else None
    return cast("RelayStatus", found)


def describe_relay(relay: RelayStatus) -> str:
    """Return the status in words, on one line: `follower of web1:77, lag 0.003 s`."""
    leader = relay["leader"] or "no leader"
    parts = ["leader" if relay["role"] == "leader" else f"{relay['role']} of {leader}"]
    if relay["role"] == "leader" and relay["leader"]:
        parts[0] = f"leader {leader}"
    if relay["since"] is not None:
        parts[0] += f" since {format_ms(relay['since'] // 1000 * 1000)}"
    if relay["epoch"]:
        parts.append(f"epoch {relay['epoch']}")
    if relay["lag"] is not None:
        parts.append(f"lag {relay['lag']:.3f} s")
    if relay["behind"]:
        parts.append(f"{counted(relay['behind'], 'flush', 'flushes')} behind")
    text = ", ".join(parts)
    return f"{text}; {relay['error']}" if relay["error"] else text
