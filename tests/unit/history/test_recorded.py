"""History out of a recording: which answer a job is given, and at what cost."""

import json
import random
from urllib.parse import urlencode

import numpy as np

from shmfeed.history.interface import HistoryError, HistoryJob, HistoryRequest
from shmfeed.history.recorded import RecordedAnswer, RecordedHistory
from shmfeed.wire.http_client import TIMEOUT

MINUTE = 60_000
START = 1_700_000_040_000
SYMBOLS = [f"S{number}USDT" for number in range(200)]


class Recording:
    """A recorded history, its clock, and the requests that it looks for."""

    def __init__(self):
        self.now = START / 1000
        self.history = RecordedHistory("spot", lambda: self.now)
        self.looked_for = []
        client, find = self.history._client, self.history._client.get

        def get(resource, *rest):
            self.looked_for.append(resource)
            return find(resource, *rest)

        client.get = get

    def ask(self, symbol, minutes=3):
        last = START + (minutes - 1) * MINUTE
        request = HistoryRequest((symbol, "1m"), START, last)
        self.history.ask(HistoryJob(request, "hole", symbol))

    def deliver(self, symbol, minutes=3, **fields):
        rows = [row(number, symbol) for number in range(minutes)]
        last = START + (minutes - 1) * MINUTE
        asked = {"symbol": symbol, "interval": "1m", "startTime": START}
        asked |= {"endTime": last, "limit": minutes, **fields}
        target = f"/api/v3/klines?{urlencode(asked)}"
        date, body = START + 60 * MINUTE, json.dumps(rows).encode()
        self.history.deliver(RecordedAnswer(self.now, target, 200, {}, date, body))

    def found(self):
        return {one.job.token: one for one in self.history.drain()}


def price_of(symbol):
    return float(SYMBOLS.index(symbol) + 1)


def row(number, symbol):
    opened, price = START + number * MINUTE, str(price_of(symbol))
    return [opened, *[price] * 4, "1", opened + MINUTE - 1, price, 1, "0", "0", "0"]


def closes(outcome):
    return outcome.answer.block.view(np.float64)[5].tolist()


def test_each_job_is_given_the_answer_about_its_stream():
    recording = Recording()
    for symbol in SYMBOLS:
        recording.ask(symbol)
    shuffled = random.Random(3).sample(SYMBOLS, len(SYMBOLS))
    for symbol in shuffled:
        recording.deliver(symbol)
    found = recording.found()
    assert set(found) == set(SYMBOLS)
    for symbol, outcome in found.items():
        assert closes(outcome) == [price_of(symbol)] * 3
    # Each is looked for as it is asked, and as its answer comes.
    assert len(recording.looked_for) == 2 * len(SYMBOLS)


def test_an_answer_may_come_before_its_request():
    recording = Recording()
    recording.deliver(SYMBOLS[0])
    recording.ask(SYMBOLS[0])
    recording.ask(SYMBOLS[1])
    assert set(recording.found()) == {SYMBOLS[0]}


def test_the_same_request_is_preferred_to_one_about_the_stream():
    recording = Recording()
    recording.deliver(SYMBOLS[0], minutes=2)
    recording.deliver(SYMBOLS[0])
    recording.ask(SYMBOLS[0])
    assert len(closes(recording.found()[SYMBOLS[0]])) == 3


def test_a_request_about_the_stream_serves_without_the_same_one():
    recording = Recording()
    recording.deliver(SYMBOLS[0], minutes=5)
    recording.ask(SYMBOLS[0])
    assert len(closes(recording.found()[SYMBOLS[0]])) == 3


def test_a_job_without_an_answer_ends_as_one_that_got_none():
    recording = Recording()
    recording.ask(SYMBOLS[0])
    recording.now += TIMEOUT - 0.1
    assert recording.found() == {}
    recording.now += 0.2
    outcome = recording.found()[SYMBOLS[0]]
    assert isinstance(outcome.error, HistoryError)
    recording.deliver(SYMBOLS[0])
    assert recording.found() == {}


def test_a_cancelled_job_has_no_outcome():
    recording = Recording()
    recording.ask(SYMBOLS[0])
    recording.history.cancel((SYMBOLS[0], "1m"))
    recording.deliver(SYMBOLS[0])
    assert recording.found() == {}
