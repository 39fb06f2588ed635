"""Spread streams over connections, by the most that one may carry.

The streams of a symbol stay together where they fit, because some venues subscribe
symbols times timeframes. A change moves no stream that stays. No I/O.
"""

from collections.abc import Sequence

from shmfeed.bar import StreamKey

Streams = tuple[StreamKey, ...]


def spread(
    streams: Streams, most: int, present: Sequence[Streams] = ()
) -> list[Streams]:
    """Return the streams of each connection, at least one connection.

    `present` are the streams of the connections that there are. Each keeps what is
    still wanted; those after them are new. A connection may be left without streams.
    """
    wanted = set(streams)
    carried = {key for group in present for key in group}
    groups = [[key for key in group if key in wanted] for group in present]
    for group in groups:  # a limit may have become smaller
        carried.difference_update(group[most:])
        del group[most:]
    by_symbol: dict[str, list[StreamKey]] = {}
    for key in dict.fromkeys(streams):
        if key not in carried:
            by_symbol.setdefault(key[0], []).append(key)
    first = 0  # the groups before it are full
    for keys in by_symbol.values():
        for part in (keys[at : at + most] for at in range(0, len(keys), most)):
            while first < len(groups) and len(groups[first]) >= most:
                first += 1
            home = next(
                (one for one in groups[first:] if len(one) + len(part) <= most), None
            )
            if home is None:
                groups.append(home := [])
            home += part
    return [tuple(group) for group in groups] or [()]
