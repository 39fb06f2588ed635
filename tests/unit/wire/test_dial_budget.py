"""The budget of dials: a sliding minute, shared by processes, a file of any state."""

import json
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as some
from support.dials import forget_dials
from support.host_files import HOLDER, SetClock

from shmfeed.wire import dial_budget, host_file
from shmfeed.wire.dial_budget import FILE_NAME, MAX_BAN, DialBudget
from shmfeed.wire.host_file import RETRY, STUCK, WINDOW, HostFile

HOST, PORT = "venue.example", 443
VENUE = f"{HOST}:{PORT}"
ON_FILES = examples(suppress_health_check=[HealthCheck.function_scoped_fixture])

# Print the number of dials that were permitted, then wait for the end of the input.
DIALLER = """
import sys
from shmfeed.wire.dial_budget import DialBudget
folder, most, tries = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
budget = DialBudget(folder, most, clock=lambda: 1000.0)
sys.stdin.readline()
granted = 0
for _ in range(tries):
    while (wait := budget.reserve("venue.example", 443)) == 0.05:
        pass
    granted += not wait
print(granted)
"""


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


def dials(budget: DialBudget, count: int, port: int = PORT) -> list[float]:
    return [budget.reserve(HOST, port) for _ in range(count)]


class TestOneProcess:
    def test_the_limit_holds_over_any_minute(self, tmp_path, clock) -> None:
        budget = DialBudget(tmp_path, 3, clock=clock)
        assert dials(budget, 2) == [0.0, 0.0]
        clock.now += 40
        assert dials(budget, 2) == [0.0, pytest.approx(WINDOW - 40, abs=0.2)]
        clock.now += WINDOW - 40.3
        assert budget.reserve(HOST, PORT) > 0
        clock.now += 0.4
        assert dials(budget, 3) == [0.0, 0.0, pytest.approx(39.9, abs=0.3)]

    def test_each_host_and_port_has_its_own(self, tmp_path, clock) -> None:
        budget = DialBudget(tmp_path, 1, clock=clock)
        assert budget.reserve(HOST, PORT) == 0.0
        assert budget.reserve(HOST, 444) == budget.reserve("other", PORT) == 0.0
        assert budget.reserve(HOST.upper() + ".", PORT) > 0  # the same name

    def test_zero_is_no_limit_but_the_dials_count_for_others(
        self, tmp_path, clock
    ) -> None:
        assert not any(dials(DialBudget(tmp_path, 0, clock=clock), 200))
        assert DialBudget(tmp_path, 200, clock=clock).reserve(HOST, PORT) > 0
        assert DialBudget(tmp_path, 201, clock=clock).reserve(HOST, PORT) == 0

    def test_the_file_is_private_and_small(self, tmp_path, clock) -> None:
        budget = DialBudget(tmp_path, 0, clock=clock)
        for number in range(dial_budget.MAX_VENUES + 50):
            budget.reserve(f"host{number}", PORT)
            clock.now += 0.05
        path = tmp_path / FILE_NAME
        assert path.stat().st_mode & 0o777 == 0o600
        assert len(json.loads(path.read_bytes())["venues"]) == dial_budget.MAX_VENUES
        clock.now += WINDOW + 1
        budget.reserve(HOST, PORT)
        assert list(json.loads(path.read_bytes())["venues"]) == [VENUE]

    @given(
        most=some.integers(1, 5),
        steps=some.lists(
            some.tuples(some.floats(0, 45), some.integers(0, 2), some.integers(0, 1)),
            max_size=60,
        ),
    )
    @ON_FILES
    def test_against_a_model(self, tmp_path, most, steps) -> None:
        """No minute has more dials than the limit, and no dial waits without cause."""
        (tmp_path / FILE_NAME).unlink(missing_ok=True)
        clock = SetClock()
        budgets = [DialBudget(tmp_path, most, clock=clock) for _ in range(3)]
        granted: dict[int, list[float]] = {0: [], 1: []}
        for pause, number, port in steps:
            clock.now += pause
            earlier = [at for at in granted[port] if at > clock.now - WINDOW]
            wait = budgets[number].reserve(HOST, port)
            if wait == 0:
                assert len(earlier) < most
                granted[port].append(clock.now)
            else:
                recent = [at for at in granted[port] if at > clock.now - WINDOW - 0.11]
                assert len(recent) >= most
                assert wait <= sorted(recent)[-most] + WINDOW + 0.21 - clock.now


class TestABan:
    def test_every_feeder_of_this_user_keeps_it(self, tmp_path, clock) -> None:
        first, second = (DialBudget(tmp_path, 0, clock=clock) for _ in range(2))
        first.block(HOST, PORT, 90)
        assert first.reserve(HOST, PORT) == second.reserve(HOST, PORT) == 90
        assert second.reserve(HOST, 444) == 0
        clock.now += 90
        assert first.reserve(HOST, PORT) == second.reserve(HOST, PORT) == 0

    def test_none_dials_a_moment_before_its_end(self, tmp_path, clock) -> None:
        # A venue may begin the ban again for a client that comes too early.
        for _ in range(50):
            clock.now += 100.017
            begin = clock.now
            DialBudget(tmp_path, 0, clock=clock).block(HOST, PORT, 10)
            clock.now = begin + 9.999
            assert DialBudget(tmp_path, 0, clock=clock).reserve(HOST, PORT) > 0
            clock.now = begin + 10.11
            assert DialBudget(tmp_path, 0, clock=clock).reserve(HOST, PORT) == 0

    def test_the_reason_of_a_wait_is_told(self, tmp_path, clock) -> None:
        first, second = (DialBudget(tmp_path, 1, clock=clock) for _ in range(2))
        assert (first.reserve(HOST, PORT), first.is_banned) == (0, False)
        assert second.reserve(HOST, PORT) > 0
        assert not second.is_banned
        first.block(HOST, PORT, 90)
        for budget in (first, second):
            assert budget.reserve(HOST, PORT) == 90
            assert budget.is_banned
        clock.now += 90
        assert (second.reserve(HOST, PORT), second.is_banned) == (0, False)

    def test_a_longer_one_stays(self, tmp_path, clock) -> None:
        budget = DialBudget(tmp_path, 10, clock=clock)
        budget.block(HOST, PORT, 100)
        budget.block(HOST, PORT, 10)
        assert budget.reserve(HOST, PORT) == 100
        budget.block(HOST, PORT, 200)
        assert budget.reserve(HOST, PORT) == 200

    @pytest.mark.parametrize("seconds", [0.0, -5.0, float("nan")])
    def test_nothing_to_wait_for(self, tmp_path, clock, seconds) -> None:
        budget = DialBudget(tmp_path, 10, clock=clock)
        budget.block(HOST, PORT, seconds)
        assert budget.reserve(HOST, PORT) == 0

    def test_a_venue_cannot_ban_for_ever(self, tmp_path, clock) -> None:
        budget = DialBudget(tmp_path, 10, clock=clock)
        budget.block(HOST, PORT, float("inf"))
        assert budget.reserve(HOST, PORT) == MAX_BAN


class TestDamage:
    def reserve(self, folder: Path, content: bytes, now: float = 1000.0) -> float:
        (folder / FILE_NAME).write_bytes(content)
        clock = SetClock()
        clock.now = now
        return DialBudget(folder, 1, clock=clock).reserve(HOST, PORT)

    def content(self, folder: Path) -> bytes:
        (folder / FILE_NAME).unlink(missing_ok=True)
        assert DialBudget(folder, 1, clock=SetClock()).reserve(HOST, PORT) == 0
        return (folder / FILE_NAME).read_bytes()

    def test_a_rest_after_the_first_line_does_not_count(self, tmp_path) -> None:
        """A feeder that is killed before it shortens the file leaves one."""
        data = self.content(tmp_path)
        assert self.reserve(tmp_path, data + b'"old": [1, 2]}}\n\0') > 0
        assert self.reserve(tmp_path, data) > 0  # control

    def test_another_boot_and_the_future_do_not_count(self, tmp_path) -> None:
        data = self.content(tmp_path)
        book = json.loads(data)
        assert self.reserve(tmp_path, data, now=500.0) == 0
        book["boot"] = "another"
        assert self.reserve(tmp_path, json.dumps(book).encode()) == 0

    @pytest.mark.parametrize(
        "ban", [[9_000, 9_999], [20_000, 90_000], [9_000, 10**15], [5, 5]]
    )
    def test_bans_of_the_past_and_of_another_clock(self, tmp_path, ban) -> None:
        book = json.loads(self.content(tmp_path))
        book["venues"] = {VENUE: {"ban": ban}}
        assert self.reserve(tmp_path, json.dumps(book).encode()) == 0

    @given(data=some.binary(max_size=200))
    @ON_FILES
    def test_any_bytes(self, tmp_path, data) -> None:
        assert self.reserve(tmp_path, data) == 0
        assert json.loads((tmp_path / FILE_NAME).read_bytes())["venues"]

    @given(
        venue=some.fixed_dictionaries(
            {},
            optional={
                "dials": some.lists(
                    some.tuples(*[some.integers(-(2**70), 2**70)] * 2), max_size=4
                ),
                "ban": some.lists(some.integers(-(2**70), 2**70), max_size=3),
            },
        )
    )
    @ON_FILES
    def test_any_numbers(self, tmp_path, venue) -> None:
        book = json.loads(self.content(tmp_path)) | {"venues": {VENUE: venue}}
        wait = self.reserve(tmp_path, json.dumps(book).encode())
        assert 0 <= wait <= MAX_BAN + 1

    def test_a_huge_file(self, tmp_path) -> None:
        (tmp_path / FILE_NAME).touch()
        os.truncate(tmp_path / FILE_NAME, 1 << 34)
        assert DialBudget(tmp_path, 1, clock=SetClock()).reserve(HOST, PORT) == 0
        assert (tmp_path / FILE_NAME).stat().st_size < 200


class TestWithoutAFile:
    @pytest.fixture(params=["folder", "fifo", "link", "missing", "file for folder"])
    def folder(self, request, tmp_path) -> Path:
        path = tmp_path / FILE_NAME
        if request.param == "folder":
            path.mkdir()
        elif request.param == "fifo":
            os.mkfifo(path)
        elif request.param == "link":
            path.symlink_to(tmp_path / "other")
        elif request.param == "missing":
            return tmp_path / "missing"
        else:
            path.touch()
            return path
        return tmp_path

    def test_this_process_counts_alone_and_says_so_once(
        self, folder, clock, caplog
    ) -> None:
        budget = DialBudget(folder, 2, clock=clock)
        assert dials(budget, 2) == [0, 0]
        assert budget.reserve(HOST, PORT) == pytest.approx(WINDOW, abs=0.2)
        budget.block(HOST, PORT, 90)
        assert budget.reserve(HOST, PORT) == 90
        (line,) = caplog.messages
        assert line.startswith(f"the file of dials {folder / FILE_NAME} cannot be used")
        assert not (folder.parent / "other").exists()

    def test_none_is_no_fault(self, clock, caplog) -> None:
        budget = DialBudget(None, 1, clock=clock)
        assert budget.reserve(HOST, PORT) == 0
        assert budget.reserve(HOST, PORT) > 0
        assert caplog.messages == []

    def test_a_full_disk(self, tmp_path, clock, monkeypatch, caplog) -> None:
        def full(*_: object) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(host_file.os, "pwrite", full)
        budget = DialBudget(tmp_path, 2, clock=clock)
        assert dials(budget, 3) == [0, 0, pytest.approx(WINDOW, abs=0.2)]
        assert "No space left" in caplog.text


class TestManyProcesses:
    @pytest.fixture
    def holder(self, child, tmp_path) -> Iterator[object]:
        process = child(HOLDER, tmp_path / FILE_NAME)
        assert process.stdout.readline() == "held\n"
        return process

    def test_together_they_keep_the_limit(self, child, tmp_path) -> None:
        others = [child(DIALLER, tmp_path, 100, 40) for _ in range(4)]
        for process in others:
            process.stdin.write("\n")
            process.stdin.flush()
        counts = [process.communicate(timeout=30) for process in others]
        assert [complaint for _, complaint in counts] == [""] * 4
        assert sum(int(out) for out, _ in counts) == 100

    def test_without_the_lock_they_would_not(self, tmp_path, monkeypatch) -> None:
        """Control: two that read before either writes exceed the limit."""
        read, first = HostFile.read, DialBudget(tmp_path, 1, clock=SetClock())
        second = DialBudget(tmp_path, 1, clock=SetClock())
        granted = []

        def meddle(file: HostFile, fd: int) -> object:
            book = read(file, fd)
            if not granted:
                granted.append(None)
                granted[0] = second.reserve(HOST, PORT)
            return book

        monkeypatch.setattr(HostFile, "read", meddle)
        assert first.reserve(HOST, PORT) == 0
        assert granted == [RETRY]  # the lock kept the second one out
        monkeypatch.setattr(host_file, "lock", lambda *_: None)
        (tmp_path / FILE_NAME).unlink()
        granted.clear()
        first = DialBudget(tmp_path, 1, clock=SetClock())
        assert (first.reserve(HOST, PORT), granted) == (0, [0])

    def test_one_killed_with_the_lock_blocks_nobody(
        self, holder, tmp_path, clock
    ) -> None:
        budget = DialBudget(tmp_path, 1, clock=clock)
        assert budget.reserve(HOST, PORT) == RETRY
        holder.send_signal(signal.SIGKILL)
        holder.wait(10)
        assert budget.reserve(HOST, PORT) == 0

    def test_a_process_stopped_with_the_lock_blocks_no_other_for_long(
        self, holder, tmp_path, clock, caplog
    ) -> None:
        holder.send_signal(signal.SIGSTOP)
        budget = DialBudget(tmp_path, 1, clock=clock)
        assert budget.reserve(HOST, PORT) == RETRY
        clock.now += STUCK
        assert budget.reserve(HOST, PORT) == 0
        assert budget.reserve(HOST, PORT) > RETRY  # its own dials still count
        assert [record.levelno for record in caplog.records] == [logging.WARNING]

    def test_a_file_that_is_removed_meanwhile(self, tmp_path, clock) -> None:
        budget = DialBudget(tmp_path, 2, clock=clock)
        assert budget.reserve(HOST, PORT) == 0
        (tmp_path / FILE_NAME).unlink()
        assert budget.reserve(HOST, PORT) == 0
        assert budget.reserve(HOST, PORT) > 0  # it remembers its own


def test_the_tests_forget_dials_to_ports_without_a_server(tmp_path, clock) -> None:
    """Otherwise those of all tests together would be too many for a minute."""
    budget = DialBudget(tmp_path, 1, clock=clock)
    for host, port in (("127.0.0.1", 1), ("127.0.0.1", 40_000), (HOST, 9)):
        budget.reserve(host, port)
    forget_dials(tmp_path)
    other = DialBudget(tmp_path, 1, clock=clock)
    assert other.reserve("127.0.0.1", 1) == 0
    assert other.reserve("127.0.0.1", 40_000) > 0
    assert other.reserve(HOST, 9) > 0
    forget_dials(tmp_path / "missing")
