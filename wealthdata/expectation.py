"""The identity that a process expects of a feed, and the one that it is bound to."""

from shmfeed.errors import BadArgumentError, FeedChangedError
from shmfeed.identity import FeedIdentity, make_identity
from shmfeed.text import repr_short
from wealthdata.stand_ins import stand_ins

_PARTS = (2, 3)
_NONE = "none, as rows that shmfeed.create has written"


def check_expect(name: str, value: object) -> str:
    """Return `protocol/market_type` or `protocol/market_type/venue`.

    Raise BadArgumentError.
    """
    parts = value.split("/") if isinstance(value, str) else []
    if len(parts) not in _PARTS or not all(
        part.strip() == part != "" for part in parts
    ):
        raise BadArgumentError(
            f"{name} is {repr_short(value)}; it must be protocol/market_type or"
            " protocol/market_type/venue, like 'binance/usdm'"
        )
    return "/".join(parts)


def meets(found: FeedIdentity | None, expect: str) -> bool:
    """Return True if an identity is the one that `check_expect` has accepted.

    Of several venues one in common is enough.
    """
    protocol, market_type, *venues = expect.split("/")
    if found is None or found[:2] != (protocol, market_type):
        return False
    wanted = make_identity("", "", [v for text in venues for v in text.split(",")])
    return not venues or not set(wanted.venues).isdisjoint(found.venues)


def _advice(found: FeedIdentity | None) -> str:
    if found is None and stand_ins() is not None:
        return (
            "a replay of a file of bars knows of no venue: replay recorded frames, or"
            " expect an identity only where context.run_params.type is 'live'"
        )
    return "read another feed, or expect this identity"


class Binding:
    """The identity of a feed that this process has read first.

    A feed without an identity binds nothing: its first one does.

    Thread safety: any thread may call any method.
    """

    __slots__ = ("_first", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._first: dict[str, FeedIdentity] = {}  # empty, or one value

    def check(self, found: FeedIdentity | None, expect: str | None) -> None:
        """Bind the feed to this identity. Raise FeedChangedError for another one."""
        if expect is not None and not meets(found, expect):
            raise FeedChangedError(
                f"feed {self.name!r} has the identity {found or _NONE}, and this"
                f" process expects {expect}, by wealthdata.use(expect=...) or"
                f" SHMFEED_EXPECT: no bar of it was read; {_advice(found)}"
            )
        if found is None:
            first = self._first.get("")
        else:
            first = self._first.setdefault("", found)  # of two threads one binds
        if first is not None and not (found and first.matches(found)):
            raise FeedChangedError(
                f"feed {self.name!r} has the identity {found or _NONE}, and this"
                f" process has read {first} under that name: no bar of it was read;"
                f" call wealthdata.use(feed={self.name!r}) to read it from now on"
            )
