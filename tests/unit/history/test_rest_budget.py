"""The weight of requests: a sliding minute, waits, shared by processes."""

import json
import signal
import socket
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as some
from support.dials import forget_rest
from support.host_files import HOLDER, SetClock

from shmfeed.history.rest_budget import (
    FILE_NAME,
    LONGEST_DOUBLED,
    MAX_WAIT,
    RestBudget,
)
from shmfeed.wire import host_file
from shmfeed.wire.host_file import RETRY, STUCK, WINDOW

HOST, PORT = "venue.example", 443
LIMIT = 400  # of which a quarter is 100
NOON = 1_700_049_600_000  # ms; a minute begins
ON_FILES = examples(suppress_health_check=[HealthCheck.function_scoped_fixture])

# Print the weight that was permitted, after a line of the input.
SPENDER = """
import sys
from shmfeed.history.rest_budget import RestBudget
budget = RestBudget(sys.argv[1], 0.25, clock=lambda: 1000.0)
sys.stdin.readline()
spent = 0
for _ in range(40):
    while (wait := budget.reserve("venue.example", 443, 2, 400).seconds) == 0.05:
        pass
    spent += 0 if wait else 2
print(spent)
"""


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def budgets(tmp_path, clock) -> list[RestBudget]:
    return [RestBudget(tmp_path, 0.25, clock=clock) for _ in range(2)]


def ask(budget: RestBudget, weight: int = 2, port: int = PORT) -> float:
    return budget.reserve(HOST, port, weight, LIMIT).seconds


class TestTheShare:
    def test_it_may_be_used_at_once(self, budgets, clock):
        assert [ask(budgets[n % 2]) for n in range(50)] == [0.0] * 50
        assert ask(budgets[0]) == pytest.approx(WINDOW, abs=0.2)
        clock.now += 30
        assert ask(budgets[1]) == pytest.approx(WINDOW - 30, abs=0.2)
        clock.now += WINDOW - 30 + 0.2
        assert ask(budgets[1], 100) == 0.0

    def test_a_heavy_request_waits_for_room(self, budgets, clock):
        assert ask(budgets[0], 60) == 0
        clock.now += 10
        assert ask(budgets[1], 40) == 0
        assert ask(budgets[0], 60) == pytest.approx(WINDOW - 10, abs=0.2)
        assert ask(budgets[1], 61) == pytest.approx(WINDOW, abs=0.2)

    def test_one_that_is_heavier_than_the_share_gets_a_minute_to_itself(
        self, budgets, clock
    ):
        assert ask(budgets[0], 150) == 0
        assert ask(budgets[0], 1) > 0
        clock.now += WINDOW + 0.2
        assert ask(budgets[0], 1) == 0
        assert ask(budgets[0], 150) == pytest.approx(WINDOW, abs=0.2)

    def test_each_host_and_port_has_its_own(self, budgets):
        assert ask(budgets[0], 100) == 0
        assert ask(budgets[0], 100, port=444) == 0
        assert budgets[0].reserve("other", PORT, 100, LIMIT).seconds == 0
        assert budgets[0].reserve(HOST.upper() + ".", PORT, 2, LIMIT).seconds > 0

    @given(
        steps=some.lists(
            some.tuples(some.floats(0, 40), some.integers(0, 1), some.integers(1, 100)),
            max_size=50,
        )
    )
    @ON_FILES
    def test_no_minute_has_more(self, tmp_path, steps):
        (tmp_path / FILE_NAME).unlink(missing_ok=True)
        clock = SetClock()
        budgets = [RestBudget(tmp_path, 0.25, clock=clock) for _ in range(2)]
        spent: list[tuple[float, int]] = []
        for pause, number, weight in steps:
            clock.now += pause
            recent = [w for at, w in spent if at > clock.now - WINDOW + 0.2]
            longer = [w for at, w in spent if at > clock.now - WINDOW - 0.2]
            if ask(budgets[number], weight) == 0:
                assert sum(recent) + weight <= 100
                spent.append((clock.now, weight))
            else:
                assert sum(longer) + weight > 100


class TestSlowRequests:
    def test_a_weight_counts_from_its_answer_on(self, budgets, clock):
        wait = budgets[0].reserve(HOST, PORT, 100, LIMIT)
        clock.now += 10
        budgets[0].settle(HOST, PORT, 100, wait.recorded)
        clock.now += WINDOW - 9.5
        assert ask(budgets[1], 100) == pytest.approx(9.5, abs=0.3)
        clock.now += 9.9
        assert ask(budgets[1], 100) == 0

    def test_until_then_it_counts_from_its_reservation_on(self, budgets):
        assert ask(budgets[0], 100) == 0
        assert ask(budgets[1], 2) > 0

    def test_a_prompt_answer_writes_nothing(self, budgets, clock, monkeypatch):
        wait = budgets[0].reserve(HOST, PORT, 100, LIMIT)
        monkeypatch.setattr(host_file, "write", None)
        clock.now += 0.4
        budgets[0].settle(HOST, PORT, 100, wait.recorded)

    def test_a_weight_that_shares_its_time_moves_alone(self, budgets, clock):
        first = budgets[0].reserve(HOST, PORT, 40, LIMIT)
        assert ask(budgets[1], 60) == 0
        clock.now += 10
        budgets[0].settle(HOST, PORT, 40, first.recorded)
        clock.now += WINDOW - 9.7
        assert ask(budgets[1], 61) > 0
        assert ask(budgets[1], 60) == 0

    @ON_FILES
    @given(
        steps=some.lists(
            some.tuples(some.floats(0, 20), some.integers(1, 60), some.floats(0, 10)),
            max_size=40,
        )
    )
    def test_no_minute_of_the_venue_has_more(self, tmp_path, steps):
        check_minutes(tmp_path, steps, RestBudget.settle)

    def test_control_counted_from_the_reservation_one_has(self, tmp_path):
        steps = [(0.0, 100, 10.0), (WINDOW + 0.2, 100, 0.0)]
        check_minutes(tmp_path, steps, RestBudget.settle)
        with pytest.raises(AssertionError):
            check_minutes(tmp_path, steps, lambda *_: None)


def check_minutes(folder, steps, settle):
    """Make requests that reach the venue at their end; check each minute of it.

    A step is a pause, a weight, and the seconds that the request takes.
    """
    (folder / FILE_NAME).unlink(missing_ok=True)
    clock = SetClock()
    budget = RestBudget(folder, 0.25, clock=clock)
    arrived: list[tuple[float, int]] = []
    under_way: list[tuple[float, int, int]] = []
    for pause, weight, lasts in [*steps, (60.0, 1, 0.0)]:
        until = clock.now + pause
        for end, one, recorded in sorted(under_way):
            if end <= until:
                clock.now = max(clock.now, end)
                settle(budget, HOST, PORT, one, recorded)
                arrived.append((end, one))
        under_way = [one for one in under_way if one[0] > until]
        clock.now = until
        wait = budget.reserve(HOST, PORT, weight, LIMIT)
        if not wait.seconds:
            under_way.append((clock.now + lasts, weight, wait.recorded))
    for end, _ in arrived:
        assert sum(w for at, w in arrived if end - 60 < at <= end) <= 100


class TestTheVenuesOwnCount:
    def test_half_of_the_limit_is_left_to_others(self, budgets, clock):
        budgets[0].note_used(HOST, PORT, 199, NOON + 20_000)
        for budget in budgets:
            assert ask(budget) == pytest.approx(41, abs=0.2)
        clock.now += 41.2
        assert ask(budgets[1]) == 0

    def test_less_than_half_is_no_reason(self, budgets):
        budgets[0].note_used(HOST, PORT, 198, NOON)
        assert ask(budgets[1]) == 0
        assert ask(budgets[1]) > 0  # its own weight counts, too

    def test_within_a_minute_it_only_grows(self, budgets, clock):
        budgets[0].note_used(HOST, PORT, 200, NOON + 20_000)
        clock.now += 0.5
        budgets[1].note_used(HOST, PORT, 150, NOON + 20_000)  # an older answer
        assert ask(budgets[0]) > 0
        clock.now += 39
        budgets[1].note_used(HOST, PORT, 3, NOON + 60_000)
        assert ask(budgets[0]) == 0

    @pytest.mark.parametrize("used", [None, 0, -5, 10**12])
    def test_no_count(self, budgets, used):
        budgets[0].note_used(HOST, PORT, used, None)
        assert ask(budgets[0]) == 0


class TestAWait:
    def test_all_feeders_keep_it(self, budgets, clock):
        assert budgets[0].block(HOST, PORT, 28) == 28
        for budget in budgets:
            assert budget.reserve(HOST, PORT, 2, LIMIT)[:2] == (28, True)
        assert ask(budgets[1], port=444) == 0
        clock.now += 28
        assert ask(budgets[1]) == 0

    def test_without_a_time_it_is_doubled_each_time(self, budgets, clock):
        waits = []
        for number in range(9):
            waits.append(budgets[number % 2].block(HOST, PORT, 0))
            clock.now += waits[-1] + 1
        assert waits[:4] == [30, 60, 120, 240]
        assert waits[-1] == LONGEST_DOUBLED

    def test_an_answer_ends_the_row(self, budgets, clock):
        budgets[0].block(HOST, PORT, 0)
        clock.now += 31
        assert ask(budgets[1]) == 0
        budgets[1].note_used(HOST, PORT, None, None)
        assert budgets[0].block(HOST, PORT, 0) == 30

    def test_an_answer_to_a_request_from_before_the_refusal_does_not(
        self, budgets, clock
    ):
        assert budgets[0].block(HOST, PORT, 0) == 30
        budgets[1].note_used(HOST, PORT, 1, None)
        clock.now += 30
        assert budgets[0].block(HOST, PORT, 0) == 60

    def test_refusals_of_requests_under_way_together_count_once(self, budgets, clock):
        assert budgets[0].block(HOST, PORT, 0) == 30
        clock.now += 1
        assert budgets[1].block(HOST, PORT, 0) == 29
        clock.now += 30
        assert budgets[1].block(HOST, PORT, 0) == 60

    def test_a_longer_one_stays(self, budgets):
        budgets[0].block(HOST, PORT, 100)
        assert budgets[1].block(HOST, PORT, 10) == 100
        assert ask(budgets[1]) == 100

    def test_a_venue_cannot_ask_for_ever(self, budgets):
        assert budgets[0].block(HOST, PORT, float("inf")) == MAX_WAIT


class TestFiles:
    def test_the_file_is_private(self, tmp_path, budgets):
        ask(budgets[0])
        assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600

    def test_another_boot_does_not_count(self, tmp_path, budgets, clock):
        ask(budgets[0], 100)
        path = tmp_path / FILE_NAME
        assert ask(RestBudget(tmp_path, 0.25, clock=clock)) > 0
        path.write_text(json.dumps(json.loads(path.read_text()) | {"boot": "other"}))
        assert ask(RestBudget(tmp_path, 0.25, clock=clock)) == 0

    @given(
        venue=some.fixed_dictionaries(
            {},
            optional={
                name: some.lists(some.integers(-(2**40), 2**40), max_size=3)
                for name in ("wait", "strikes", "used")
            },
        )
    )
    @ON_FILES
    def test_any_numbers(self, tmp_path, venue):
        boot = host_file._boot_id()
        book = {"boot": boot, "venues": {f"{HOST}:{PORT}": venue}}
        (tmp_path / FILE_NAME).write_text(json.dumps(book))
        clock = SetClock()
        budget = RestBudget(tmp_path, 0.25, clock=clock)
        assert 0 <= ask(budget) <= MAX_WAIT + 1
        clock.now += 1
        assert 0 < budget.block(HOST, PORT, 0) <= MAX_WAIT + 1

    def test_without_a_file_this_process_counts_alone(self, tmp_path, clock, caplog):
        (tmp_path / FILE_NAME).mkdir()
        budget = RestBudget(tmp_path, 0.25, clock=clock)
        assert ask(budget, 100) == 0
        assert ask(budget) > 0
        assert budget.block(HOST, PORT, 90) == 90
        assert budget.reserve(HOST, PORT, 2, LIMIT)[:2] == (90, True)
        (line,) = caplog.messages
        assert line.startswith(f"the file of REST requests {tmp_path / FILE_NAME} cann")

    def test_a_directory_that_comes_later_is_used(self, tmp_path, clock, caplog):
        budget = RestBudget(tmp_path / "locks", 0.25, clock=clock)
        assert ask(budget, 60) == 0
        (tmp_path / "locks").mkdir()
        assert ask(budget, 60) > 0
        assert ask(budget, 40) == 0
        assert ask(RestBudget(tmp_path / "locks", 0.25, clock=clock)) > 0
        assert caplog.messages == []

    def test_a_file_that_is_removed_meanwhile(self, tmp_path, clock):
        budget = RestBudget(tmp_path, 0.25, clock=clock)
        assert ask(budget, 100) == 0
        (tmp_path / FILE_NAME).unlink()
        assert ask(budget) > 0


class TestManyProcesses:
    def test_together_they_keep_the_share(self, child, tmp_path: Path):
        others = [child(SPENDER, tmp_path) for _ in range(3)]
        for process in others:
            process.stdin.write("\n")
            process.stdin.flush()
        counts = [process.communicate(timeout=30) for process in others]
        assert [complaint for _, complaint in counts] == [""] * 3
        assert sum(int(out) for out, _ in counts) == 100

    def test_without_the_lock_they_would_not(self, tmp_path, monkeypatch):
        """Control: two that read before either writes exceed the share."""
        read = host_file.HostFile.read
        first, second = (RestBudget(tmp_path, 0.25, clock=SetClock()) for _ in range(2))
        granted = []

        def meddle(file, fd):
            book = read(file, fd)
            if not granted:
                granted.append(None)
                granted[0] = ask(second, 100)
            return book

        monkeypatch.setattr(host_file.HostFile, "read", meddle)
        assert (ask(first, 100), granted) == (0, [RETRY])
        monkeypatch.setattr(host_file, "lock", lambda *_: None)
        (tmp_path / FILE_NAME).unlink()
        granted.clear()
        first = RestBudget(tmp_path, 0.25, clock=SetClock())
        assert (ask(first, 100), granted) == (0, [0])

    def test_a_process_stopped_with_the_lock_blocks_no_other_for_long(
        self, child, tmp_path, clock, caplog
    ):
        holder = child(HOLDER, tmp_path / FILE_NAME)
        assert holder.stdout.readline() == "held\n"
        holder.send_signal(signal.SIGSTOP)
        budget = RestBudget(tmp_path, 0.25, clock=clock)
        assert ask(budget) == RETRY
        clock.now += STUCK
        assert ask(budget, 100) == 0
        assert ask(budget) > RETRY
        assert budget.block(HOST, PORT, 10) == 10
        assert len(caplog.messages) == 1


def test_the_tests_forget_waits_of_services_that_have_gone(tmp_path, clock):
    """Otherwise a later one on the same port would be waited for."""
    budget = RestBudget(tmp_path, 0.25, clock=clock)
    with socket.create_server(("127.0.0.1", 0)) as there:
        listening = there.getsockname()[1]
        for host, port in (("127.0.0.1", 1), ("127.0.0.1", listening), (HOST, 9)):
            budget.block(host, port, 100)
        forget_rest(tmp_path)
    other = RestBudget(tmp_path, 0.25, clock=clock)
    assert other.reserve("127.0.0.1", 1, 2, LIMIT)[:2] == (0, False)
    assert other.reserve("127.0.0.1", listening, 2, LIMIT)[:2] == (100, True)
    assert other.reserve(HOST, 9, 2, LIMIT)[:2] == (100, True)
    forget_rest(tmp_path / "missing")
