"""History from a program: what it is asked, and what becomes of its answers."""

import json
import sys
import threading
import time
from contextlib import closing

import pytest
from support.loopback import within

from shmfeed.history.blocks import times_of
from shmfeed.history.command_source import CommandSource
from shmfeed.history.interface import HistoryError, HistoryRequest

MINUTE = 60_000
START = 1_700_000_040_000
KEY = ("BTCUSDT", "1m")
NOW = (START + 100 * MINUTE) / 1000

# A program with a bar each minute.
GOOD = """
import json, sys
asked = json.loads(sys.stdin.readline())
print(json.dumps(asked), file=open(sys.argv[1], "a"))
for t in range(asked["start_ms"], asked["end_ms"] + 1, 60000):
    if t >= 1700000040000:
        print(json.dumps({"open_time": t, "open": "1", "high": 2, "low": "0.5",
                          "close": 1.5, "volume": "3"}))
"""


def source_of(code, *words, **options):
    options.setdefault("now", lambda: NOW)
    return closing(CommandSource([sys.executable, "-c", code, *words], **options))


def fails(code, **options):
    with source_of(code, **options) as source:
        with pytest.raises(HistoryError) as caught:
            source.fetch(HistoryRequest(KEY, START, START))
    return caught.value


def test_a_range(tmp_path):
    with source_of(GOOD, str(tmp_path / "asked")) as source:
        page = source.fetch(HistoryRequest(KEY, START, START + 4 * MINUTE))
    assert times_of(page.block).tolist() == [START + n * MINUTE for n in range(5)]
    assert page.follows is None
    assert json.loads((tmp_path / "asked").read_text()) == {
        "symbol": "BTCUSDT",
        "timeframe": "1m",
        "start_ms": START,
        "end_ms": START + 4 * MINUTE,
    }


def test_the_newest_that_have_closed(tmp_path):
    with source_of(GOOD, str(tmp_path / "asked")) as source:
        page = source.fetch(HistoryRequest(KEY, 0, 0, newest=10))
    times = times_of(page.block).tolist()
    assert times == [START + n * MINUTE for n in range(90, 100)]
    assert page.follows is None


def test_arrays_and_money():
    row = [START, 1, 2, 0.5, 1.5, 3, 4.5]
    with source_of(f"print({row})") as source:
        page = source.fetch(HistoryRequest(KEY, START, START))
    assert page.block[2:8, 0].tolist() == [1, 2, 0.5, 1.5, 3, 4.5]


def test_nothing_is_an_answer():
    with source_of("pass") as source:
        page = source.fetch(HistoryRequest(KEY, START, START))
    assert page.block.shape == (9, 0)


def test_it_gets_no_token(monkeypatch, tmp_path):
    monkeypatch.setenv("WEBSOCKET_CSRF_TOKEN", "canary-1")
    monkeypatch.setenv("SHMFEED_HEADERS", "canary-2")
    monkeypatch.setenv("KEY_OF_THE_USER", "mine")
    code = "import os, sys; print(dict(os.environ), file=open(sys.argv[1], 'w'))"
    with source_of(code, str(tmp_path / "seen")) as source:
        source.fetch(HistoryRequest(KEY, START, START))
    seen = (tmp_path / "seen").read_text()
    assert "canary" not in seen
    assert "mine" in seen


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("print('hello')", "malformed", "line 1 of .* is no bar"),
        ("print('[]')", "malformed", "line 1 of .* is no bar: Expected `array` of at"),
        ("print('{}')", "malformed", "line 1 of .* is no bar: .*`open_time`"),
        (
            "print('[1700000040000, 1, 2, 3, 1, 1]')",
            "malformed",
            "values that no bar can have",
        ),
        (
            "print('[1700000040000, 1, 1, 1, 1, 1]\\n' * 2)",
            "malformed",
            "row 2 of 2, .*: not after the row before it",
        ),
        ("import sys; sys.exit('no such symbol')", "away", "with 1: no such symbol"),
        ("import os; os.kill(os.getpid(), 9)", "away", "was ended by signal 9"),
        ("while True: print('x' * 65536)", "malformed", "wrote more than 16777216"),
    ],
)
def test_rubbish_and_failures(code, kind, words):
    error = fails(code)
    assert error.kind == kind
    with pytest.raises(HistoryError, match=words):
        raise error


def test_no_such_program(tmp_path):
    source = CommandSource([str(tmp_path / "missing")])
    with pytest.raises(HistoryError) as caught:
        source.fetch(HistoryRequest(KEY, START, START))
    assert str(caught.value) == (
        "the command missing cannot be started: No such file or directory"
    )


def test_its_messages_hold_no_secret():
    code = "import sys; sys.exit('canary-token is wrong')"
    error = fails(code, redact=lambda text: text.replace("canary-token", "***"))
    assert "*** is wrong" in str(error)


@pytest.mark.parametrize(
    "code",
    [
        "import time; time.sleep(60)",
        "import os, time; os.close(1); os.close(2); time.sleep(60)",
        # A child holds the output open.
        "import os, time; os.fork() or time.sleep(60)",
    ],
)
def test_one_that_hangs_is_killed(code):
    begun = time.monotonic()
    error = fails(code, timeout=0.5)
    assert str(error).endswith("was killed after 0.5 s without an end")
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("first", ["", "os.close(1); os.close(2); "])
def test_closing_kills_it(tmp_path, first):
    started = tmp_path / "started"
    code = f"import os, sys, time; {first}open(sys.argv[1], 'w'); time.sleep(60)"
    errors = []
    source = CommandSource([sys.executable, "-c", code, str(started)])

    def ask():
        with pytest.raises(HistoryError) as caught:
            source.fetch(HistoryRequest(KEY, START, START))
        errors.append(str(caught.value))

    thread = threading.Thread(target=ask)
    thread.start()
    assert within(10, started.exists)
    source.close()
    thread.join(5)
    assert not thread.is_alive()
    assert errors == ["the feeder is stopping"]
