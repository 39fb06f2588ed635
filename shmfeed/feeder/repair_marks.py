"""The marks of a repair: streams that are polled, warm up, or were compared."""

from collections.abc import Iterable

from shmfeed.bar import StreamKey
from shmfeed.feeder.polling import Polling
from shmfeed.feeder.reasons import Reasons
from shmfeed.feeder.repair_log import RepairLog
from shmfeed.feeder.repair_ports import HoleMarks, RepairIntake
from shmfeed.feeder.warmup import Warmups
from shmfeed.text import format_ms


class RepairMarks:
    """The reasons of health that a repair has. Only the main loop uses it.

    `source` names the source of history.
    """

    def __init__(
        self, marks: HoleMarks, reasons: Reasons, log: RepairLog, source: str
    ) -> None:
        self._marks = marks
        self._reasons = reasons
        self._log = log
        self._source = source
        self._polled: set[StreamKey] = set()
        self._warming: set[StreamKey] = set()
        self._compared: dict[StreamKey, float] = {}

    def forget(self, keys: Iterable[StreamKey]) -> None:
        """Drop all reasons of streams that are no longer carried."""
        for key in keys:
            self._reasons.forget(key)
            self._polled.discard(key)
            self._warming.discard(key)
            self._compared.pop(key, None)

    def mark_polled(
        self, polling: Polling, intake: RepairIntake, soon: StreamKey | None = None
    ) -> None:
        """Publish the reason of the streams that are polled.

        `soon` is one that is about to be: its rows from REST are no sign of a socket
        that speaks, not for a moment.
        """
        polled = set(polling.polled) | ({soon} if soon is not None else set())
        for key in self._polled - polled:
            self._reasons.clear(key, "polled")
        for key in polled - self._polled:
            last = intake.reader(key).last_closed()
            since = f" since {format_ms(last.open_time)}" if last is not None else ""
            text = f"closed bars come by {self._source}; the socket gives none{since}"
            self._reasons.put(key, "polled", text)
        self._polled = polled

    def mark_compared(
        self, polling: Polling, keys: Iterable[StreamKey], now: float
    ) -> None:
        """Publish when history was last found to have nothing newer than these."""
        for key in keys:
            at = polling.compared_at(key, now)
            if self._compared.get(key) != at:
                self._compared[key] = at
                self._marks.set_compared(key, at)

    def mark_warming(
        self, warmups: Warmups, keys: Iterable[StreamKey], now: float
    ) -> None:
        """Publish the reason of the streams that warm up, with their progress."""
        warming = {key for key in keys if warmups.is_said(key, now)}
        for key in self._warming - warming:
            self._reasons.clear(key, "warming")
        if warming:
            waits = "; it waits for the rate limit" if self._log.is_paused else ""
            text = f"{warmups.progress}{waits}"
            for key in warming:
                self._reasons.put(key, "warming", text)
            self._log.warming(warmups.progress, now)
        self._warming = warming
