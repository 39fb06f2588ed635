"""Ctrl-C, SIGTERM, a closed pipe, and a handler that hangs."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from support.runs import Runs, minutes

from wealthdata.runner.watch import StoppedError, Watch

pytest_plugins = ["support.runs_fixture"]

ROOT = Path(__file__).parents[3]
WAITING = """
    import sys

    def handle_bar(context, bar):
        print("handling", bar.close, flush=True)
        sys.stdin.readline()
        print("handled", bar.close, flush=True)

    def on_strategy_end(context):
        print("end", flush=True)
"""


class Process:
    """A run in a process of its own."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "wealthdata", "run", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def error(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.readline().strip()

    def let_return(self) -> None:
        """Let the handler return."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> tuple[int, list[str], str]:
        output, errors = self.process.communicate(timeout=60)
        return self.process.returncode, output.splitlines(), errors


Start = Callable[..., Process]


@pytest.fixture
def start(runs: Runs) -> Iterator[Start]:
    """Return a function that runs a strategy on nine minutes in its own process."""
    started: list[Process] = []

    def run(source: str, *more: str, count: int = 9) -> Process:
        path, bars = runs.write("waiting.py", source), runs.write_bars(minutes(count))
        options = ["--symbols", "AAA", "--frequency", "1m", "--backtest", bars]
        started.append(Process([path, *options, *more]))
        return started[-1]

    yield run
    for one in started:
        one.process.kill()
        with one.process:  # closes its pipes and reaps it
            pass


@pytest.fixture
def waiting(start: Start) -> Process:
    """Run a strategy whose handler waits for a line on standard input."""
    return start(WAITING)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_signal_lets_the_handler_return(
    waiting: Process, number: signal.Signals, code: int
) -> None:
    assert waiting.line() == "handling 11.0"
    waiting.let_return()
    assert [waiting.line(), waiting.line()] == ["handled 11.0", "handling 12.0"]
    waiting.process.send_signal(number)
    told = waiting.error()
    assert told.startswith(
        f"wealthdata: {number.name}: the run ends once handle_bar of"
    )
    assert "waiting.py at AAA 1m 2026-01-01T00:02:00Z has returned" in told
    waiting.let_return()
    found = waiting.end()
    assert found[:2] == (code, ["handled 12.0", "end"])
    assert "Traceback" not in found[2]
    assert "backtest of" in found[2]


def test_a_second_signal_ends_the_handler_at_once(waiting: Process) -> None:
    assert waiting.line() == "handling 11.0"
    waiting.process.send_signal(signal.SIGINT)
    assert "SIGINT: the run ends once" in waiting.error()
    waiting.process.send_signal(signal.SIGINT)
    code, output, errors = waiting.end()
    assert (code, output) == (130, ["end"])
    assert "Traceback" not in errors


CATCHING = """
    import sys

    def handle_bar(context, bar):
        while True:
            try:
                print("handling", flush=True)
                sys.stdin.readline()
            except:
                print("caught", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_handler_that_catches_everything_is_killed_by_a_third(
    start: Start, number: signal.Signals
) -> None:
    one = start(CATCHING)
    assert one.line() == "handling"
    one.process.send_signal(number)
    assert f"{number.name}: the run ends once" in one.error()
    one.process.send_signal(number)
    assert [one.line(), one.line()] == ["caught", "handling"]
    one.process.send_signal(number)
    code, output, errors = one.end()
    assert (code, output) == (-number, [])
    assert "handle_bar of waiting.py at AAA 1m" in errors
    assert "has caught the end of the run, as a bare except does" in errors


CATCHING_FILE = """
    import sys

    while True:
        try:
            print("loading", flush=True)
            sys.stdin.readline()
        except:
            print("caught", flush=True)
"""


def test_a_file_that_catches_everything_is_killed_by_a_second(start: Start) -> None:
    one = start(CATCHING_FILE)
    assert one.line() == "loading"
    one.process.send_signal(signal.SIGINT)
    assert [one.line(), one.line()] == ["caught", "loading"]
    one.process.send_signal(signal.SIGINT)
    code, _, errors = one.end()
    assert code == -signal.SIGINT
    assert "the code of waiting.py outside of its functions has caught" in errors


LOADING = """
    import sys

    def read():
        print("loading", flush=True)
        sys.stdin.readline()

    read()

    def handle_bar(context, bar):
        print("handling", flush=True)
"""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_signal_ends_the_loading_of_a_file_at_once(
    start: Start, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    record = tmp_path / "decisions.jsonl"
    one = start(LOADING, "--record", str(record))
    assert one.line() == "loading"
    one.process.send_signal(number)
    found = one.end()
    assert found[:2] == (code, [])
    assert "Traceback" not in found[2]
    assert not record.exists()


def test_a_file_is_loaded_without_a_signal(start: Start) -> None:
    """Control of the one above."""
    one = start(LOADING, count=1)
    assert one.line() == "loading"
    one.let_return()
    assert one.end()[:2] == (0, ["handling"])


def test_a_closed_pipe_ends_the_run_quietly(start: Start) -> None:
    source = """
        def handle_bar(context, bar):
            log.info("a line that no program reads" * 50)
            print("another one" * 50)
    """
    one = start(source, "--keep-going", count=300)
    assert "a line that no program reads" in one.line()
    process = one.process
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait(60) == 141
    assert "Traceback" not in errors
    assert "failure" not in errors


class CountedWatch(Watch):
    """A watch that counts the rings of its alarm."""

    rings = 0

    def _on_ring(self, *given: object) -> None:
        super()._on_ring(*given)  # type: ignore[arg-type]
        self.rings += 1


def await_rings(watch: CountedWatch, count: int) -> None:
    wanted, deadline = watch.rings + count, time.monotonic() + 60
    while watch.rings < wanted:
        assert time.monotonic() < deadline
        time.sleep(0.001)


class TestAlarm:
    def test_a_call_that_hangs_is_told_once(self) -> None:
        told: list[str] = []
        with CountedWatch(told.append, str, 0.02) as watch:
            watch.call = "handle_bar of ma.py"
            await_rings(watch, 2)
            assert len(told) == 1
            await_rings(watch, 3)
            assert len(told) == 1
            watch.call = "handle_data of ma.py"
            await_rings(watch, 2)
        assert len(told) == 2
        assert told[0].startswith(
            "handle_bar of ma.py has run for 0 s or more; it is at "
        )
        assert f" {Path(__file__).name} line " in told[0]

    def test_a_file_that_hangs_while_it_is_loaded_is_told_once(self) -> None:
        told: list[str] = []
        with CountedWatch(told.append, str, 0.02) as watch:
            with watch.load("ma.py", "ma.py"):
                await_rings(watch, 4)
            await_rings(watch, 3)
        assert len(told) == 1
        assert told[0].startswith(
            "the code of ma.py outside of its functions has run for 0 s or more"
        )

    def test_the_line_is_the_strategys_own(self) -> None:
        """A call that hangs in a library is told with the line that has called it."""
        source = "\n\ndef handle_bar(wait):\n    wait()\n"
        names: dict[str, Callable[..., None]] = {}
        exec(compile(source, "/strategies/ma.py", "exec"), names)
        told: list[str] = []
        with CountedWatch(told.append, str, 0.02) as watch:
            with watch.load("ma.py", "/strategies/ma.py"):
                pass

            def wait() -> None:
                watch.call = "handle_bar of ma.py"  # no ring before the handler runs
                await_rings(watch, 3)
                watch.call = None

            names["handle_bar"](wait)
        assert [text.rpartition(" is at ")[2] for text in told] == ["ma.py line 4"]

    @pytest.mark.parametrize("kind", ["lock", "socket", "process"])
    def test_a_call_that_waits_in_the_kernel_is_told(self, kind: str) -> None:
        """Each of these waits ends because it was told, else after a minute."""
        told: list[str] = []
        event = threading.Event()
        reader, writer = socket.socketpair()
        command = [sys.executable, "-c", "input()"]
        with (
            reader,
            writer,
            subprocess.Popen(command, stdin=subprocess.PIPE) as process,
        ):
            waits: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
                "lock": (event.wait, event.set),
                "socket": (lambda: reader.recv(1), lambda: writer.send(b"x")),
                "process": (process.wait, process.kill),
            }
            wait, release = waits[kind]

            def tell(text: str) -> None:
                told.append(text)
                release()

            otherwise = threading.Timer(60, release)
            otherwise.start()
            with Watch(tell, str, 0.02) as watch:
                watch.call = "handle_bar of ma.py"
                wait()
                watch.call = None
            otherwise.cancel()
            otherwise.join()
            process.kill()
        assert len(told) == 1

    def test_short_calls_and_waits_are_not_told(self) -> None:
        """Control of the one above: each ring finds another call, or none."""
        told: list[str] = []
        with CountedWatch(told.append, str, 0.02) as watch:
            for number in range(4):
                watch.call = f"call {number}"
                await_rings(watch, 1)
            watch.call = None
            await_rings(watch, 3)
        assert told == []

    def test_what_was_there_before_is_there_again(self) -> None:
        earlier = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGALRM)]
        timer = signal.getitimer(signal.ITIMER_REAL)
        with Watch([].append, str, 5.0):
            assert signal.getitimer(signal.ITIMER_REAL)[1] == 5.0
        assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGALRM)] == earlier
        assert signal.getitimer(signal.ITIMER_REAL)[1] == timer[1]

    def test_another_thread_has_no_signals(self) -> None:
        found: list[bool] = []

        def enter() -> None:
            with Watch([].append, str):
                found.append(True)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        assert found == [True]


def test_a_signal_between_two_calls_ends_the_wait() -> None:
    with Watch([].append, str) as watch, pytest.raises(StoppedError) as caught:
        assert watch.call is None
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.number == signal.SIGTERM
