"""Repairs against a venue in memory, by the test's clock."""

import random

import numpy as np
import pytest
from support.fake_history import (
    KEY,
    SECOND,
    FakeIntake,
    FakeMarks,
    FakeVenue,
    FakeWorker,
)

from shmfeed.bar import (
    BACKFILLED,
    CLOSED_BY_NEXT,
    CLOSED_BY_VENUE,
    POLLED,
    UNCONFIRMED,
)
from shmfeed.feeder.belief import LEAST_ROWS
from shmfeed.feeder.reasons import Reasons
from shmfeed.feeder.repair import Repair
from shmfeed.feeder.repair_log import RepairLog
from shmfeed.feeder.repair_ports import RepairLimits
from shmfeed.feeder.repair_stream import COMPARED_BARS, with_comparable_rows
from shmfeed.feeder.row_events import HistoryEffect
from shmfeed.history.interface import HistoryRequest

GRACE = 5.0
STEP = 0.1


class Play:
    """A stream of one-second bars, its venue, and its repair."""

    def __init__(self, *, lacks=(), start=100, rows=(), warmup=50, source=True, **how):
        self.venue = FakeVenue(lacks)
        self.intake, self.marks = FakeIntake(), FakeMarks()
        self.intake.rows = dict.fromkeys(rows, 1)
        self.worker = FakeWorker(self.venue, **how) if source else None
        self.said = self.marks.reasons
        self.log = RepairLog("spot", "REST")
        self.now = float(start)
        self.intake.turn(self.now)
        self.repair = Repair(
            self.intake,
            self.marks,
            Reasons(self.marks),
            RepairLimits(GRACE, warmup, 1000),
            self.log,
            self.worker,
            "REST",
        )
        self.is_mute = False
        self.flags = 1
        self._next = int(self.now)
        self.repair.set_streams([KEY], self.now)

    def connect(self):
        self.intake.is_carried = True
        self.intake.heard = self.now
        self._next = int(self.now)
        self.repair.connected([KEY], self.now)

    def disconnect(self):
        self.intake.is_carried = False
        self.repair.disconnected([KEY])

    def run(self, seconds):
        for _ in range(round(seconds / STEP)):
            self.now = round(self.now + STEP, 3)
            self.intake.turn(self.now)
            if self.worker is not None:
                self.worker.now = self.now
            while self._next <= self.venue.newest(self.now):
                number, self._next = self._next, self._next + 1
                is_sent = self.intake.is_carried and not self.is_mute
                if is_sent and number not in self.venue.lacks:
                    self.intake.close(number, self.flags)
            self.repair.tick(self.now)

    @property
    def numbers(self):
        return sorted(self.intake.rows)

    @property
    def purposes(self):
        return [job.purpose for _, job in self.worker.asked]

    @property
    def reason(self):
        return self.said[-1][1] if self.said else ""

    @property
    def states(self):
        return [(hole.state, hole.reason) for hole in self.marks.records]


def test_a_start_warms_up_and_then_receives():
    play = Play()
    assert play.purposes == []
    play.connect()
    play.run(0.3)
    assert play.said[0][1:] == ("warming", "warm-up 0 of 1 streams, 0 of 50 bars")
    assert play.numbers == list(range(50, 100))
    play.run(0.5)
    assert play.reason == ""
    play.run(5)
    assert play.numbers == list(range(50, 105))
    assert play.purposes == ["warmup"]


def test_a_slow_connection_does_not_delay_the_warm_up():
    play = Play()
    play.run(3)
    assert play.purposes == ["warmup"]
    assert play.numbers == list(range(51, 101))
    play.connect()
    play.run(3)
    assert play.purposes == ["warmup", "reconnect"]
    assert play.numbers == list(range(51, 106))
    assert play.marks.records == []


def test_the_first_rows_come_together_with_their_history():
    play = Play(delay=3.0)
    play.connect()
    play.run(2.5)
    assert play.numbers == []
    play.run(1)
    assert play.numbers == list(range(min(play.numbers), 103))


def test_rows_come_after_the_grace_where_history_cannot_be_had():
    play = Play()
    play.venue.is_away = True
    play.connect()
    play.run(GRACE - 0.5)
    assert play.numbers == []
    assert play.reason == "warming"
    play.run(2)
    assert play.numbers[:3] == [100, 101, 102]
    assert play.reason == ""
    play.venue.is_away = False
    play.run(15)
    assert play.numbers == list(range(min(play.numbers), 121))
    assert min(play.numbers) < 100


@pytest.mark.parametrize("away", [0.5, 4, 70])
def test_a_reconnect_asks_from_the_last_closed_bar_on(away):
    play = Play(rows=range(50, 100), warmup=0)
    play.connect()
    play.run(5)
    play.disconnect()
    play.run(away)
    play.connect()
    asked = len(play.worker.asked)
    last = max(play.numbers)
    told = [number for number in play.numbers if play.intake.rows[number] == 1]
    play.run(4)
    first = play.worker.asked[asked][1].request.first // SECOND
    # A few rows, by which history is believed.
    assert first == min(last - COMPARED_BARS, told[-LEAST_ROWS])
    assert play.numbers == list(range(50, int(play.now)))
    assert play.marks.records == []


def test_a_start_reaches_back_to_the_rows_that_are_there():
    play = Play(rows=range(10, 40), warmup=5)
    play.connect()
    play.run(2)
    assert play.numbers == list(range(10, 102))


def test_newer_bars_wait_for_the_grace_and_leave_a_hole_that_is_filled():
    play = Play(rows=range(50, 100), warmup=0)
    play.connect()
    play.run(3)
    play.disconnect()
    play.venue.is_away = True
    play.run(10)
    play.connect()
    play.run(GRACE - 0.3)
    assert max(play.numbers) == 102
    play.run(1)
    assert max(play.numbers) > 113
    assert [hole.state for hole in play.marks.records] == ["open"]
    play.run(5)
    assert play.states == [("open", "away")]
    play.venue.is_away = False
    play.run(16)
    assert play.numbers == list(range(50, int(play.now)))
    assert play.marks.records == []


def test_connections_that_come_and_go_hold_no_bar_for_longer():
    play = Play(rows=range(50, 100), warmup=0)
    play.venue.is_away = True
    play.connect()
    play.run(2)
    play.disconnect()
    play.run(4)
    until = play.now + GRACE
    for _ in range(3):
        play.connect()
        play.run(1.5)
        assert play.intake.until <= until
        play.disconnect()
        play.run(0.2)
    assert max(play.numbers) > 104


def asked_numbers(play):
    """Return the numbers of the first and the last bar of each request."""
    requests = [job.request for _, job in play.worker.asked]
    return [(one.first // SECOND, one.last // SECOND) for one in requests]


def test_a_restart_asks_once_for_its_warm_up_and_what_it_missed():
    play = Play(rows=range(20, 90), warmup=50, delay=0.5)
    play.connect()
    play.run(0.3)
    assert play.reason == "warming"
    play.run(5)
    assert play.purposes == ["reconnect"]
    [(first, last)] = asked_numbers(play)
    assert last >= 100
    assert last - first + 1 == 50
    assert play.numbers == list(range(20, int(play.now)))
    assert play.reason == ""


def test_control_a_restart_that_asks_twice_is_noticed(monkeypatch):
    connected = Repair.connected

    def ask_twice(repair, keys, now):
        connected(repair, keys, now)
        for stream in repair._streams.values():
            stream.catch_up_at = now

    monkeypatch.setattr(Repair, "connected", ask_twice)
    with pytest.raises(AssertionError):
        test_a_restart_asks_once_for_its_warm_up_and_what_it_missed()


def test_a_restart_with_too_few_rows_asks_once_for_the_newest_bars():
    play = Play(rows=range(80, 90), warmup=50)
    play.connect()
    play.run(5)
    assert play.purposes == ["reconnect"]
    assert play.numbers == list(range(50, int(play.now)))


def test_a_restart_asks_for_a_hole_before_its_warm_up_in_the_same_request():
    play = Play(rows=[*range(20, 30), *range(33, 95)], warmup=20)
    play.connect()
    play.run(5)
    assert play.purposes == ["reconnect"]
    assert asked_numbers(play)[0][0] == 30
    assert play.numbers == list(range(20, int(play.now)))
    assert play.marks.records == []


def test_a_restart_asks_for_a_hole_far_before_its_warm_up_by_itself():
    play = Play(start=900, rows=[*range(20, 30), *range(33, 895)], warmup=20)
    play.connect()
    play.run(5)
    assert play.purposes == ["reconnect", "hole"]
    assert play.numbers == list(range(20, int(play.now)))


def test_a_restart_reaches_no_further_back_for_a_long_hole_between_its_rows():
    play = Play(start=900, rows=[*range(20, 60), *range(880, 895)], warmup=50)
    play.connect()
    play.run(0.1)
    [(first, last)] = asked_numbers(play)
    assert last - first + 1 == 50
    play.run(5)
    assert play.numbers == list(range(20, int(play.now)))


def test_a_restart_asks_again_for_what_history_lacked():
    play = Play(rows=range(20, 90), warmup=50)
    play.venue.lag = 3
    play.connect()
    play.run(2.5)
    assert play.marks.records == []
    assert max(play.numbers) == 98  # newer bars wait
    play.run(3)
    assert set(play.purposes) == {"reconnect"}
    assert asked_numbers(play)[-1][0] > 80  # not for the warm-up once more
    assert play.numbers == list(range(20, int(play.now)))


def test_a_restart_whose_history_is_away_publishes_after_the_grace():
    play = Play(rows=range(20, 90), warmup=50)
    play.venue.is_away = True
    play.connect()
    play.run(GRACE - 0.3)
    assert max(play.numbers) == 89
    play.run(1)
    assert max(play.numbers) >= 104
    assert [hole.missing for hole in play.marks.records] == [10]
    play.venue.is_away = False
    play.run(15)
    assert play.numbers == list(range(20, int(play.now)))
    assert play.marks.records == []


def test_first_rows_wait_for_a_warm_up_that_was_asked_for_before():
    play = Play(delay=2.5)
    play.run(1.5)
    assert play.purposes == ["warmup"]
    play.connect()
    play.run(1.5)
    assert play.numbers == []
    play.run(3.5)
    assert play.purposes == ["warmup", "reconnect"]
    assert play.numbers == list(range(min(play.numbers), int(play.now)))


def test_defects_wait_for_the_warm_up_that_may_mend_them():
    play = Play(rows=[*range(60, 80), *range(85, 100)], warmup=50, delay=0.5)
    play.run(0.5)
    play.connect()
    play.run(2)
    assert play.purposes == ["reconnect"]
    assert play.numbers == list(range(min(play.numbers), int(play.now)))


def test_bars_that_the_venue_lacks_are_given_up_and_can_be_accepted():
    play = Play(rows=range(50, 100), warmup=0, lacks=[105, 106])
    play.connect()
    play.run(9)
    assert play.states == [("open", "absent")]
    play.run(15)
    assert play.states == [("given_up", "absent")]
    assert "bars are given up: 2 of BTCUSDT 1s" in play.log.take_said()
    asked = play.purposes.count("hole")
    play.run(30)
    assert play.purposes.count("hole") == asked == 2
    assert play.repair.accept([KEY]) == 1
    assert play.states == [("none_at_venue", "accepted")]


def test_bars_that_the_venue_lacks_as_a_user_asks_again_are_none_at_venue():
    play = Play(rows=range(50, 100), warmup=0, lacks=[105, 106])
    play.connect()
    play.run(24)
    assert play.states == [("given_up", "absent")]
    assert play.repair.retry(None, play.now) == 1
    play.run(1)
    assert play.purposes[-1] == "retry"
    assert play.states == [("none_at_venue", "absent")]


def test_bars_that_the_venue_has_again_fill_a_hole_that_was_none_at_venue():
    play = Play(rows=range(50, 100), warmup=0, lacks=[105, 106, 107])
    play.connect()
    play.run(24)
    play.repair.retry(None, play.now)
    play.run(1)
    assert play.states == [("none_at_venue", "absent")]
    play.venue.lacks = {106}
    play.repair.retry(None, play.now)
    play.run(1)
    assert play.states == [("none_at_venue", "absent")]  # what is left of it
    assert [hole.missing for hole in play.marks.records] == [1]
    play.venue.lacks = set()
    play.repair.retry(None, play.now)
    play.run(1)
    assert play.states == []
    assert play.numbers == list(range(50, int(play.now)))


def test_without_a_source_a_hole_is_marked_and_nothing_waits():
    play = Play(rows=range(50, 100), source=False, lacks=[103])
    play.connect()
    play.run(6)
    assert max(play.numbers) == 105
    assert play.states == [("given_up", "no_source")]
    assert play.repair.retry(None, play.now) == 1
    assert play.states == [("given_up", "no_source")]


def test_unconfirmed_rows_are_confirmed():
    play = Play(rows=range(50, 100), warmup=0)
    play.flags = CLOSED_BY_NEXT | UNCONFIRMED
    play.connect()
    play.run(5)
    play.flags = 1
    play.run(2)
    assert "confirm" in play.purposes
    assert not any(flags & UNCONFIRMED for flags in play.intake.rows.values())


def test_the_rows_of_an_earlier_feeder_are_repaired():
    play = Play(rows=[*range(20, 30), *range(35, 60), *range(62, 100)], warmup=5)
    assert [hole.missing for hole in play.marks.records] == [5, 2]
    play.connect()
    play.run(3)
    assert play.numbers == list(range(20, int(play.now)))
    assert play.marks.records == []


def test_a_mute_socket_is_polled_and_left_and_ends_it():
    play = Play(rows=range(50, 100), warmup=0)
    play.connect()
    play.run(3)
    play.is_mute = True
    play.run(12)
    assert play.reason == "polled"
    assert max(play.numbers) >= int(play.now) - GRACE - 2
    assert play.intake.rows[max(play.numbers)] & POLLED
    assert play.repair.take_lying(play.now) == (KEY,)
    play.is_mute = False
    play.run(2)
    assert play.reason == ""
    assert play.numbers == list(range(50, int(play.now)))


def test_rows_beside_are_asked_for_too_so_that_a_poll_can_be_disbelieved():
    play = Play(rows=range(50, 100), warmup=0)
    play.run(10)
    polls = [job.request for _, job in play.worker.asked if job.purpose == "poll"]
    assert polls[0].first == (100 - COMPARED_BARS) * SECOND
    assert polls[0].last >= 100 * SECOND


@pytest.mark.parametrize("history", [BACKFILLED, POLLED, UNCONFIRMED])
def test_rows_of_the_socket_are_asked_for_too_beside_those_of_history(
    history,
):
    play = Play(rows=range(50, 90), warmup=0)
    play.intake.rows |= dict.fromkeys(range(90, 100), history)
    play.connect()
    play.run(1)
    first = play.worker.asked[0][1].request.first // SECOND
    assert first == 90 - LEAST_ROWS


def test_an_answer_is_compared_with_later_rows_where_none_is_earlier():
    opened = np.arange(10, dtype=np.int64) * SECOND
    flags = np.full(10, BACKFILLED)
    flags[6:] = CLOSED_BY_VENUE
    asked = HistoryRequest(KEY, 0, 4 * SECOND)
    found = with_comparable_rows(asked, opened, flags)
    assert (found.first, found.last) == (0, 8 * SECOND)
    flags[0] = CLOSED_BY_VENUE
    found = with_comparable_rows(asked._replace(first=SECOND), opened, flags)
    assert (found.first, found.last) == (0, 7 * SECOND)
    few = with_comparable_rows(asked, opened[:7], flags[:7])
    assert (few.first, few.last) == (0, 6 * SECOND)  # all that there are
    far = asked._replace(first=10_000 * SECOND, last=10_001 * SECOND)
    assert with_comparable_rows(far, opened, flags) == far


def test_a_feed_without_a_connection_is_polled_too():
    play = Play(rows=range(50, 100), warmup=0)
    play.run(10)
    assert play.reason == "polled"
    assert play.repair.take_lying(play.now) == ()
    assert max(play.numbers) >= int(play.now) - GRACE - 2


@pytest.mark.parametrize(("why", "bars"), [("", 50), ("other prices", 0)])
def test_a_warm_up_counts_no_bars_of_a_history_that_is_not_believed(
    monkeypatch, caplog, why, bars
):
    play = Play()
    take = play.intake.take_history

    def disbelieve(answer, *, how):
        return HistoryEffect(disbelieved=why) if why else take(answer, how=how)

    monkeypatch.setattr(play.intake, "take_history", disbelieve)
    with caplog.at_level("INFO"):
        play.connect()
        play.run(3)
    assert f"warm-up done: 1 stream, {bars} bars by REST" in caplog.text


def test_a_poll_asks_for_no_more_than_the_ring_holds():
    play = Play(rows=range(40, 100), warmup=0)
    play.run(1)
    play.intake.turn(play.now + 10_000)  # its clock is judged again, hours ahead
    play.repair.tick(play.now + 10_000)
    first, last = play.worker.asked[-1][1].request[1:3]
    assert play.purposes[-1] == "poll"
    assert (last - first) // SECOND + 1 == 1000


def test_a_symbol_that_does_not_trade_is_not_polled():
    play = Play(rows=range(50, 100), warmup=0)
    play.repair.set_trading(KEY, False)
    play.run(20)
    assert play.purposes == []


def test_a_stream_that_is_dropped_is_asked_for_no_more():
    play = Play(delay=2.0)
    play.connect()
    play.run(0.5)
    assert play.purposes == ["warmup"]
    play.repair.set_streams([], play.now)
    play.run(5)
    assert play.worker.jobs == []
    assert play.purposes == ["warmup"]
    play.repair.close()
    assert play.worker.is_closed


def test_a_warm_up_that_waits_for_the_rate_limit_says_so(caplog):
    caplog.set_level("INFO", "shmfeed")
    play = Play(delay=2.0)
    play.worker.pause = "the next request in 31 s"
    play.connect()
    play.run(1)
    said = "warm-up 0 of 1 streams, 0 of 50 bars; it waits for the rate limit"
    assert play.said[-1][1:] == ("warming", said)
    play.worker.pause = ""
    play.run(0.5)
    assert play.said[-1][1:] == ("warming", said.partition(";")[0])
    play.worker.pause = "the next request in 7 s"
    play.run(0.5)
    waits = [line for line in caplog.messages if "wait" in line]
    begin = "feed spot: requests for history wait: REST: the next request in "
    assert waits == [f"{begin}31 s", f"{begin}7 s"]


def test_rows_that_history_filled_are_flagged():
    play = Play(rows=[*range(50, 90), *range(95, 100)], warmup=0)
    play.connect()
    play.run(2)
    assert all(play.intake.rows[n] & BACKFILLED for n in range(90, 95))


@pytest.mark.parametrize("seed", range(12))
def test_the_rows_are_the_venues_after_any_storm(seed):
    rng = random.Random(seed)
    lacks = set(rng.sample(range(110, 200), 6))
    play = Play(lacks=lacks, warmup=40, delay=rng.choice([0.1, 1.5, 6.0]))
    play.connect()
    for _ in range(25):
        act = rng.choice(["cut", "connect", "mute", "speak", "away", "back", "doubt"])
        if act == "cut" and play.intake.is_carried:
            play.disconnect()
        elif act == "connect" and not play.intake.is_carried:
            play.connect()
        elif act in {"mute", "speak"}:
            play.is_mute = act == "mute"
        elif act == "doubt":
            play.flags = rng.choice([1, CLOSED_BY_NEXT | UNCONFIRMED])
        else:
            play.venue.is_away = act == "away"
        play.run(rng.uniform(0.3, 12.0))
        assert play.numbers == sorted(set(play.numbers))
    play.venue.is_away = play.is_mute = False
    play.flags = 1
    if not play.intake.is_carried:
        play.connect()
    play.run(150)
    expected = set(range(min(play.numbers), int(play.now))) - lacks
    assert set(play.numbers) == expected
    holes = {
        hole.first // SECOND + n
        for hole in play.marks.records
        for n in range(hole.missing)
    }
    inner = {n for n in lacks if min(play.numbers) < n < max(play.numbers)}
    assert holes == inner
    assert {hole.state for hole in play.marks.records} <= {"given_up"}
    assert not any(flags & UNCONFIRMED for flags in play.intake.rows.values())


def test_control_a_repair_that_loses_an_answer_is_noticed(monkeypatch):
    monkeypatch.setattr(Repair, "_take_outcome", lambda *_: None)
    with pytest.raises(AssertionError):
        test_the_rows_are_the_venues_after_any_storm(0)


def test_control_a_bar_that_is_invented_is_noticed(monkeypatch):
    fetch = FakeVenue.fetch

    def fetch_all(venue, request, now):
        lacks, venue.lacks = venue.lacks, set()
        try:
            return fetch(venue, request, now)
        finally:
            venue.lacks = lacks

    monkeypatch.setattr(FakeVenue, "fetch", fetch_all)
    with pytest.raises(AssertionError):
        test_the_rows_are_the_venues_after_any_storm(0)
