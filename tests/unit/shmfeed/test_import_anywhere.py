"""Platforms with less than Linux, or with another CPU: contexts work, feeds refuse.

A child interpreter loads the modules of Python and of other packages, which support
such platforms, and none of shmfeed. Each case is a fork of it that loses parts.
"""

import json

import pytest
from support import reduced_platform

CASES = {name: [name] for name in reduced_platform.PARTS} | {
    "all": [*reduced_platform.PARTS]
}
# A live feed does not need these; a feeder and its manager need more.
NOT_NEEDED = {"resource", "users", "terminal", "register_at_fork", "fork"}
FEEDERS_NEED = {
    "pipe2": "os.pipe2",
    "poll": "select.poll",
    "unix sockets": "AF_UNIX",
    "signals": "signal.SIGHUP",
}
REASONS = {
    "fcntl": "fcntl",
    "posixshmem": "_posixshmem",
    "O_NOFOLLOW": "os.O_NOFOLLOW",
    "O_NONBLOCK": "os.O_NONBLOCK",
    "fchmod": "os.fchmod",
    "boottime": "time.CLOCK_BOOTTIME",
    "clock_gettime": "time.clock_gettime_ns",
    "users' numbers": "os.geteuid",
    "posix_fallocate": "os.posix_fallocate",
    "shared memory": "/dev/shm",
    "other cpu": "aarch64",
}

PROGRAM = """
import json, os, sys
folder, feed, cases = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
sys.path.insert(0, folder)
from support import reduced_platform
import asyncio, multiprocessing, ssl, subprocess
import msgspec, numpy, pandas, websocket, yaml
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside BLAS's threads
fork, wait = os.fork, os.waitpid

def attempt(call):
    try:
        return call()
    except BaseException as error:
        return [type(error).__name__, str(error)]

def context_alone():
    import wealthdata
    import shmfeed  # it loads on every platform
    bars = [
        {"open_time": n * 3_600_000, "close_time": (n + 1) * 3_600_000 - 1,
         "open": "1", "high": 3, "low": "0.5", "close": 2.0 + n, "volume": 4}
        for n in range(30)
    ]
    context = wealthdata.Context(
        [{"symbol": "BTCUSDT", "timeframe": "1h", "bars": bars}],
        run_params={"type": "backtest"},
    )
    none = attempt(lambda: wealthdata.get_price("BTCUSDT"))
    wealthdata.set_context(context)
    frame = wealthdata.get_price("BTCUSDT", count=5)
    history = context.history("BTCUSDT", 5, "1h")
    again = wealthdata.bars_to_dataframe(history)
    return {
        "none": none,
        "source": frame.attrs["shmfeed"].source,
        "price": frame["close"].tolist(),
        "history": [bar.close for bar in history],
        "frame": again["close"].tolist(),
    }

def feeds():
    import shmfeed
    def create():
        shmfeed.create(feed).close(unlink=True)
        return "made"
    def attach():
        shmfeed.attach(feed).close()
    return {"create": attempt(create), "attach": attempt(attach)}

def manager():
    import shmfeed
    one = shmfeed.get_websocket_manager(feed)
    one.configure(
        symbols=["BTCUSDT"], resolutions=["1h"], endpoint="ws://127.0.0.1:1/x",
        max_reconnect_attempts=1, connect_timeout=1.0,
    )
    state = one.get_status()["state"]
    start = attempt(one.start) if wants["manager"] else None
    one.stop()
    return {"state": state, "start": start}

def commands():
    import contextlib, io
    import shmfeed.cli.main
    answers = {}
    run = ["run", "--symbols", "A", "--resolutions", "1h", "--feed", feed,
           "--endpoint", "wss://127.0.0.1:1/x"]
    status, top = ["status", "--feed", feed], ["top", "--feed", feed]
    for words in (["--help"], status, top, run, ["simulate", "--help"]):
        if words is run and not wants["manager"]:
            continue
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = attempt(lambda: shmfeed.cli.main.main(words))
        name = words[0] if words[-1] != "--help" else " ".join(words)
        answers[name] = [code, out.getvalue(), err.getvalue()]
    return answers

def live(case):
    reduced_platform.remove(case)
    return {
        "missing": reduced_platform.missing(case),
        "context": attempt(context_alone),
        "feeds": attempt(feeds),
        "manager": attempt(manager),
        "commands": attempt(commands),
    }

assert not [name for name in sys.modules if name.startswith(("shmfeed", "wealth"))]
for name, wants in cases.items():
    pid = fork()
    if not pid:
        print(json.dumps([name, live(wants["parts"])]), flush=True)
        os._exit(0)
    assert wait(pid, 0)[1] == 0, name
"""


@pytest.fixture(scope="module")
def answers():
    return {}


@pytest.fixture(autouse=True)
def ask_once(answers, child, feed_name, request):
    """Run all cases once, for the first test."""
    if answers:
        return
    cases = {
        name: {"parts": parts, "manager": not set(parts) <= NOT_NEEDED | {"windows"}}
        for name, parts in (CASES | {"nothing": []}).items()
    }
    folder = str(request.path.parents[2])
    process = child(PROGRAM, folder, feed_name, json.dumps(cases))
    output, errors = process.communicate(timeout=150)
    assert (process.returncode, errors) == (0, "")
    answers |= dict(json.loads(line) for line in output.splitlines())


@pytest.mark.parametrize("case", CASES)
def test_a_removed_part_is_missing(answers, case):
    assert answers[case]["missing"] == CASES[case]


def test_nothing_is_missing_before(answers):
    """A control run: the same check on the platform as it is."""
    assert reduced_platform.missing(reduced_platform.PARTS) == []
    assert answers["nothing"]["feeds"]["create"] == "made"


@pytest.mark.parametrize("case", CASES)
def test_contexts_work(answers, case):
    found = answers[case]["context"]
    kind, words = found["none"]
    assert kind == "NoDataError"
    assert "set_context" in words
    assert all(reason in words for reason in reasons(case))
    closes = [27.0, 28.0, 29.0, 30.0, 31.0]
    assert found == {
        "none": [kind, words],
        "source": "context",
        "price": closes,
        "history": closes,
        "frame": closes,
    }


def reasons(case):
    """Return what an error must name: the CPU only if the platform lacks nothing."""
    found = [REASONS[part] for part in CASES[case] if part in REASONS]
    return found[:-1] if len(found) > 1 else found


@pytest.mark.parametrize("case", CASES)
def test_feeds_work_or_name_the_missing_part(answers, case):
    found = answers[case]["feeds"]
    if not reasons(case):
        assert found["create"] == "made"
        assert found["attach"][0] == "FeedNotFoundError"
        return
    for kind, words in found.values():
        assert kind == "UnsupportedPlatformError"
        assert [reason for reason in reasons(case) if reason not in words] == []


@pytest.mark.parametrize("case", CASES)
def test_a_manager_can_be_configured_and_names_why_it_cannot_start(answers, case):
    manager = answers[case]["manager"]
    assert manager["state"] == "disconnected"
    if feeders_reasons(case):
        kind, words = manager["start"]
        assert kind == "UnsupportedPlatformError"
        assert any(reason in words for reason in feeders_reasons(case))


def feeders_reasons(case):
    more = [FEEDERS_NEED[part] for part in CASES[case] if part in FEEDERS_NEED]
    return reasons(case) + more


@pytest.mark.parametrize("case", CASES)
def test_commands_refuse_in_one_line(answers, case):
    commands = answers[case]["commands"]
    assert commands["--help"][0] == ["SystemExit", "0"]
    assert "status" in commands["--help"][1]
    assert commands["simulate --help"][0] == ["SystemExit", "0"]
    refusals = {name: commands[name] for name in ("status", "top")}
    if feeders_reasons(case):
        refusals["run"] = commands["run"]
    for name, (code, out, err) in refusals.items():
        assert out == ""
        assert err.startswith("shmfeed: ")
        assert err.count("\n") == 1
        refused = name == "run" or reasons(case)
        assert code == (1 if refused else 2)  # 2: there is no such feed
