"""History out of a recording: the answers that REST gave, at the times it gave them.

A repair asks as it does live. A request is answered by the recorded answer to the same
request, once that has come; else by one about the same stream, of which the rows that
were asked for are taken. A request without an answer ends as one that got none.
"""

from collections import deque
from collections.abc import Callable
from email.utils import formatdate
from functools import lru_cache
from typing import NamedTuple, cast
from urllib.parse import parse_qsl, urlsplit

from shmfeed.bar import StreamKey
from shmfeed.history.interface import HistoryError, HistoryJob, HistoryOutcome
from shmfeed.history.rest_budget import RestBudget, RestWait
from shmfeed.history.rest_source import BinanceSource
from shmfeed.history.worker import HistoryTask
from shmfeed.wire.answers import Answer
from shmfeed.wire.http_client import MAX_BYTES, TIMEOUT, HttpAnswer
from shmfeed.wire.http_client import HttpClient as _HttpClient

_Stream = tuple[str, str]  # symbol and interval; empty in a request about none

_KEPT_SECONDS = TIMEOUT  # an answer may have come just before its request


class RecordedAnswer(NamedTuple):
    """An answer of REST. `time` is in seconds, `date` in ms UTC."""

    time: float
    target: str
    status: int
    fields: dict[str, str]
    date: int
    body: bytes


class _Request(NamedTuple):
    """A request by its path, the stream that it is about, and all its fields."""

    path: str
    stream: _Stream
    fields: tuple[tuple[str, str], ...]


@lru_cache(4096)
def _request_of(target: str) -> _Request:
    parts = urlsplit(target)
    fields = dict(parse_qsl(parts.query))
    stream = fields.get("symbol", ""), fields.get("interval", "")
    return _Request(parts.path, stream, tuple(sorted(fields.items())))


class _NotYetError(HistoryError):
    def __init__(self) -> None:
        super().__init__("the recording has no answer to this request", "away")


class RecordedHistory:
    """The jobs of a repair, answered by a recording. One thread uses it.

    Args:
        market_type: The market of Binance's, as spot.
        clock: The time of the recording, in seconds UTC.
    """

    pause = ""

    def __init__(self, market_type: str, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._client = _RecordedClient(clock)
        self._source = BinanceSource(
            market_type,
            [cast("_HttpClient", self._client)],
            cast("RestBudget", _FreeBudget()),
            is_own=True,
            clock=clock,
        )
        self.name = self._source.name
        self._tasks: list[HistoryTask] = []
        self._outcomes: deque[HistoryOutcome] = deque()
        self._count = 0

    def deliver(self, answer: RecordedAnswer) -> None:
        """Take an answer, now that it comes."""
        stream = self._client.add(answer)
        self._try_stream(stream)

    def ask(self, job: HistoryJob) -> None:
        """Queue a job. It has one outcome, unless it is cancelled."""
        self._count += 1
        task = HistoryTask(job, self._count)
        task.asked_at = self._clock()
        self._tasks.append(task)
        self._tasks.sort()
        self._try_stream(job.request.key)

    def cancel(self, key: StreamKey) -> None:
        """Drop the jobs of a stream."""
        self._tasks = [t for t in self._tasks if t.job.request.key != key]

    def drain(self) -> list[HistoryOutcome]:
        """Return the outcomes since the last call, in the order of their end."""
        limit = self._clock() - TIMEOUT
        for task in [task for task in self._tasks if task.asked_at <= limit]:
            self._try(task)
        outcomes = list(self._outcomes)
        self._outcomes.clear()
        return outcomes

    def close(self) -> None:
        """Drop all jobs."""
        self._tasks.clear()

    def _try_stream(self, stream: _Stream) -> None:
        """Try the jobs of one stream, the only ones that its answers can end."""
        for task in [one for one in self._tasks if one.job.request.key == stream]:
            self._try(task)

    def _try(self, task: HistoryTask) -> None:
        self._client.asked_at = task.asked_at
        error: HistoryError | None = None
        try:
            while True:
                page = self._source.fetch(task.follows)
                task.add(page)
                task.asked_at = self._clock()
                if page.follows is None:
                    break
                task.follows = page.follows
        except _NotYetError as missing:
            if self._clock() - task.asked_at < TIMEOUT:
                return
            error = missing
        except HistoryError as failure:
            error = failure
        self._tasks.remove(task)
        self._outcomes.append(task.outcome(self._source, error))


class _RecordedClient:
    """The answers that have come and were not taken, in place of a service."""

    label = "the recording"
    host = "recording", 0

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._answers: dict[_Stream, deque[tuple[_Request, RecordedAnswer]]] = {}
        self.asked_at = 0.0

    def add(self, answer: RecordedAnswer) -> _Stream:
        """Take an answer, and return the stream that it is about."""
        request = _request_of(answer.target)
        kept = self._answers.setdefault(request.stream, deque())
        kept.append((request, answer))
        return request.stream

    def get(
        self,
        resource: str,
        max_bytes: int = MAX_BYTES,  # noqa: ARG002 # one signature
        timeout: float = TIMEOUT,  # noqa: ARG002
    ) -> HttpAnswer:
        limit = self._clock() - _KEPT_SECONDS
        wanted = _request_of(resource)
        kept = self._answers.get(wanted.stream, deque())
        while kept and kept[0][1].time < limit:
            kept.popleft()
        about = [one for one in kept if one[0].path == wanted.path]
        same = [one for one in about if one[0] == wanted]
        if not about:
            raise _NotYetError
        found = (same or about)[0]
        kept.remove(found)
        answer = found[1]
        fields = {name.lower(): [value] for name, value in answer.fields.items()}
        fields["date"] = [_http_date(answer.date)]
        head = Answer(answer.status, "", fields)
        sent = min(self.asked_at, answer.time)
        return HttpAnswer(head, answer.body, sent, self._clock())

    def close(self) -> None:
        """Do nothing: there is no connection."""


class _FreeBudget:
    """No request of a recording waits: it waited when it was recorded."""

    def reserve(self, *_request: object) -> RestWait:
        return RestWait(0.0)

    def settle(self, *_request: object) -> None:
        """Count nothing."""

    def note_used(self, *_answer: object) -> None:
        """Count nothing."""

    def block(
        self, _host: str, _port: int, seconds: float, first: float = 0.0
    ) -> float:
        return seconds or first


def _http_date(ms: int) -> str:
    return formatdate(ms / 1000, usegmt=True)
