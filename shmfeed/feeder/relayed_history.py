"""The history of a follower: none, as the leader's feeder repairs and warms up."""

from collections.abc import Callable, Iterable

from shmfeed.bar import StreamKey
from shmfeed.codecs import Codec
from shmfeed.control.messages import ControlRequest
from shmfeed.errors import BadArgumentError
from shmfeed.feeder.feed_history import QUIET, FeedHistory, HistoryTurn
from shmfeed.feeder.intake import Intake
from shmfeed.feeder.reasons import Reasons
from shmfeed.settings.model import Settings
from shmfeed.writer import FeedWriter


class RelayedHistory(FeedHistory):
    """A history without a source, which marks nothing."""

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        wake: Callable[[], None],
        current: Callable[[], Settings],
        refill: Callable[[], None],
    ) -> None:
        """Take the parts; `refill` asks the leader for all of its rows again."""
        super().__init__(settings, codec, wake, current)
        self._refill = refill

    def begin(self, intake: Intake, writer: FeedWriter, reasons: Reasons) -> None:
        """Do nothing: the leader's marks tell what is missing."""

    @property
    def quiet(self) -> set[StreamKey]:
        return set()

    @property
    def warming(self) -> set[StreamKey]:
        return set()

    def set_streams(self, streams: Iterable[StreamKey], now: float) -> None:
        pass

    def connected(self, streams: Iterable[StreamKey], now: float) -> None:
        pass

    def disconnected(self, streams: Iterable[StreamKey]) -> None:
        pass

    def begin_again(self, streams: Iterable[StreamKey], now: float) -> None:  # noqa: ARG002 # the leader tells all rows
        """Ask the leader for its rows, of which some were dropped here."""
        self._refill()

    def carry_on(self, streams: Iterable[StreamKey]) -> None:
        pass

    def settle_holes(self, request: ControlRequest) -> int:
        """Raise BadArgumentError: the leader's feeder has the holes."""
        raise BadArgumentError(
            f"this feed follows a leader, which repairs its holes: {request.op} them at"
            " the leader's host"
        )

    def turn(self, now: float) -> HistoryTurn:  # noqa: ARG002 # of a source
        return QUIET

    def close(self) -> None:
        pass
