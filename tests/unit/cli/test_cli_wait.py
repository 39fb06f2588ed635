"""`shmfeed wait`: health, bars, the deadline, and a feed that is not there yet."""

import json

import pytest
from support.command_line import append

from shmfeed.cli.main import main
from shmfeed.writer import create

pytest_plugins = ["support.command_process"]
pytestmark = pytest.mark.usefixtures("no_settings")

LIVE = ("--health", "live")


@pytest.fixture
def wait(feed_name, capsys):
    """Run it on this test's feed; return exit code, output and errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["wait", "--feed", feed_name, *arguments])
        return code, *capsys.readouterr()

    return run


def test_a_live_feed_is_exit_0_at_once(wait, cli_ring, feed_name) -> None:
    code, output, errors = wait(*LIVE, "--timeout", "0")
    assert (code, errors) == (0, "")
    assert output.startswith(f"feed {feed_name}: live, after 0.")


def test_live_accepts_quiet(wait, cli_writer) -> None:
    assert wait(*LIVE, "--timeout", "0")[0] == 0  # without streams it is quiet
    assert wait("--health", "quiet", "--timeout", "0")[0] == 0
    code, _, errors = wait("--health", "polled", "--timeout", "0")
    assert code == 1
    assert "the feed is quiet, its state connected" in errors


def test_a_deadline_is_exit_1_and_says_what_is_missing(wait, cli_ring, cli_writer):
    cli_writer.add_stream("ETHUSDT", "1h")
    code, output, errors = wait(*LIVE, "--timeout", "0.05")
    assert (code, output) == (1, "")
    assert "the feed is waiting, its state connected; ETHUSDT 1h is waiting" in errors


def test_a_feed_that_never_comes(wait, feed_name) -> None:
    code, output, errors = wait(*LIVE, "--timeout", "0.05")
    assert (code, output) == (1, "")
    assert f"there is no feed {feed_name!r} on this host" in errors
    assert wait("--health", "dead", "--timeout", "0")[0] == 0


def test_a_required_symbol_is_judged_alone(wait, cli_ring, cli_writer) -> None:
    cli_writer.add_stream("ETHUSDT", "1h")
    require = "--require", "BTCUSDT"
    assert wait(*LIVE, "--timeout", "0", *require)[:2] == (
        0,
        "BTCUSDT: live, after 0.0 s\n",
    )
    code, _, errors = wait(*LIVE, "--timeout", "0", "--require", "BTCUSD")
    assert code == 1
    assert "BTCUSD is not subscribed; did you mean BTCUSDT?" in errors


def test_bars(wait, cli_ring, cli_writer, feed_name) -> None:
    assert wait("--bars", "5", "--timeout", "0")[0] == 0
    code, _, errors = wait("--bars", "6", "--timeout", "0")
    assert code == 1
    assert "BTCUSDT 1m has 5 of 6 bars" in errors
    cli_writer.add_stream("ETHUSDT", "1h")
    assert "ETHUSDT 1h has 0 of 5" in wait("--bars", "5", "--timeout", "0")[2]
    assert wait("--bars", "5", "--timeout", "0", "--require", "BTCUSDT")[0] == 0


def test_bars_of_a_feed_without_streams(wait, cli_writer) -> None:
    code, _, errors = wait("--bars", "1", "--timeout", "0")
    assert code == 1
    assert "the feed has no streams" in errors


def test_more_bars_than_the_feed_keeps(wait, cli_ring) -> None:
    code, _, errors = wait("--bars", "101")
    assert code == 2
    assert "keeps 100 bars of a stream" in errors


def test_the_outcome_as_json(wait, cli_ring, feed_name) -> None:
    found = json.loads(wait(*LIVE, "--json")[1])
    assert found.pop("waited") >= 0
    assert found == {"feed": feed_name, "health": "live", "missing": []}
    found = json.loads(wait("--bars", "6", "--json", "--timeout", "0")[1])
    assert found["missing"] == ["BTCUSDT 1m has 5 of 6 bars"]


def test_a_closed_bar_ends_the_wait(command, cli_ring, feed_name, monkeypatch) -> None:
    process = command("wait", "--feed", feed_name, "--bars", "7", "--timeout", "60")
    append(cli_ring, 5)
    append(cli_ring, 6)
    assert process.wait(30) == 0
    assert process.stdout.read().startswith(f"feed {feed_name}: 7 bars, after ")


def test_a_feed_that_comes_later_ends_the_wait(command, feed_name) -> None:
    process = command("wait", "--feed", feed_name, *LIVE, "--timeout", "60")
    with create(feed_name, history=16, max_streams=1) as writer:
        ring = writer.add_stream("BTCUSDT", "1m")
        append(ring, 0)
        assert process.wait(30) == 0
        writer.close(unlink=True)
    assert process.stderr.read() == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "one of the arguments --health --bars is required"),
        (["--health", "good"], "invalid choice: 'good'"),
        (["--health", "live", "--bars", "1"], "not allowed with"),
    ],
)
def test_options_that_argparse_refuses(wait, arguments, message, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        wait(*arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bars", "0"], "--bars is 0; it must be an int of at least 1"),
        (["--bars", "x"], "--bars is 'x'; it must be an int of at least 1"),
        ([*LIVE, "--timeout", "soon"], "--timeout is 'soon'"),
        ([*LIVE, "--timeout", "nan"], "--timeout is nan"),
        ([*LIVE, "--timeout", "-1"], "--timeout is -1.0"),
        ([*LIVE, "--require", "A B"], "symbol 'A B' is not accepted"),
    ],
)
def test_values_that_are_refused(wait, arguments, message) -> None:
    code, output, errors = wait(*arguments)
    assert (code, output) == (2, "")
    assert message in errors
