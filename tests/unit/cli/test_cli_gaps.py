"""`shmfeed gaps`: the list, its exit code, and what it asks of the feeder."""

import json
import threading

import numpy as np
import pytest
from support.command_line import MINUTE, START, append

from shmfeed.cli.main import main
from shmfeed.control.messages import ControlRequest
from shmfeed.control.server import ControlServer
from shmfeed.memory.holes import HoleRecord
from shmfeed.segment.mapping import place
from shmfeed.writer import create

pytest_plugins = ["support.command_process"]
pytestmark = pytest.mark.usefixtures("no_settings")

HEADER = ["SYMBOL", "TIMEFRAME", "FIRST", "OPENS", "LAST", "OPENS"]
KEY = ("BTCUSDT", "1m")


def record(number: int, state: str, reason: str) -> HoleRecord:
    at = START + number * MINUTE
    return HoleRecord(at, at, 1, state, reason)  # type: ignore[arg-type] # of the tables


@pytest.fixture
def gaps(feed_name, cli_ring, capsys):
    """Run it on this test's feed; return exit code, output and errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["gaps", *arguments, "--feed", feed_name])
        return code, *capsys.readouterr()

    return run


class Asked(list[ControlRequest]):
    """The requests that came to the control socket; each is handed to `act`."""

    def __init__(self) -> None:
        super().__init__()
        self.act = lambda _: None

    def take(self, request: ControlRequest) -> dict[str, object]:
        self.append(request)
        self.act(request)
        return {"holes": 1}


@pytest.fixture
def feeder(feed_name, cli_ring):
    asked = Asked()
    with ControlServer(place(feed_name).socket, asked.take):
        yield asked


def test_no_hole_is_exit_0(gaps, feed_name) -> None:
    assert gaps() == (0, f"feed {feed_name}: no bars are missing\n", "")
    assert gaps("--json") == (0, "[]\n", "")
    assert gaps("--retry") == (0, f"feed {feed_name}: no bars are missing\n", "")


def test_holes_are_listed_and_exit_1(gaps, cli_ring, feed_name) -> None:
    append(cli_ring, 7, 9)
    code, output, errors = gaps()
    head, first, second, empty, summary = output.splitlines()
    assert (code, errors, empty) == (1, "", "")
    assert head.split() == [*HEADER, "MISSING", "STATE", "REASON"]
    times = ["2024-01-01T00:05:00Z", "2024-01-01T00:06:00Z"]
    assert first.split()[:6] == ["BTCUSDT", "1m", *times, "2", "given_up"]
    assert first.endswith("no feeder repairs these rows")
    assert second.split()[4] == "1"
    assert summary == f"feed {feed_name}: 3 bars missing in 2 holes"


def test_json_has_every_field(gaps, cli_ring) -> None:
    append(cli_ring, 7)
    code, output, _ = gaps("BTCUSDT", "1m", "--json")
    assert code == 1
    assert json.loads(output) == [
        {
            "symbol": "BTCUSDT",
            "timeframe": "1m",
            "first": START + 5 * MINUTE,
            "last": START + 6 * MINUTE,
            "missing": 2,
            "state": "given_up",
            "reason": "no feeder repairs these rows",
        }
    ]


@pytest.mark.parametrize(
    ("state", "reason", "code"),
    [
        ("open", "away", 1),
        ("given_up", "absent", 1),
        ("none_at_venue", "absent", 0),
        ("none_at_venue", "accepted", 0),
    ],
)
def test_bars_that_the_venue_lacks_count_for_nothing(
    gaps, cli_writer, cli_ring, state, reason, code
) -> None:
    append(cli_ring, 6)
    cli_writer.set_holes(KEY, [record(5, state, reason)])
    found, output, _ = gaps()
    assert (found, output.splitlines()[1].split()[5]) == (code, state)


def test_of_the_named_streams_alone(gaps, cli_writer, cli_ring) -> None:
    other = cli_writer.add_stream("ETHUSDT", "1m")
    append(other, 1, 3)
    assert gaps("BTCUSDT")[0] == gaps("BTCUSDT", "minute")[0] == 0
    assert gaps("ETHUSDT")[0] == gaps("ETHUSDT", "1m")[0] == gaps()[0] == 1


@pytest.mark.parametrize(
    ("named", "told"),
    [
        (("BTCUSD",), "does not carry BTCUSD; it carries: BTCUSDT 1m; did you mean"),
        (("BTCUSDT", "1h"), "does not carry BTCUSDT 1h; it carries: BTCUSDT 1m"),
        (("BTCUSDT", "7m"), "timeframe '7m' is not accepted"),
        (("BTC USDT",), "symbol 'BTC USDT' is not accepted"),
    ],
)
def test_an_unknown_stream_is_exit_2(gaps, named, told) -> None:
    code, output, errors = gaps(*named)
    assert (code, output) == (2, "")
    assert told in errors


def test_no_such_feed_is_exit_2(feed_name, capsys) -> None:
    assert main(["gaps", "--feed", feed_name]) == 2
    assert "there is no feed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("named", "symbols", "resolutions"),
    [
        ((), None, None),
        (("BTCUSDT",), ("BTCUSDT",), None),
        (("BTCUSDT", "minute"), ("BTCUSDT",), ("1m",)),
    ],
)
@pytest.mark.parametrize("op", ["retry", "accept"])
def test_the_feeder_is_asked(
    gaps, cli_ring, feeder, monkeypatch, op, named, symbols, resolutions
) -> None:
    monkeypatch.setattr("shmfeed.cli.gaps._FILLED_SECONDS", 0.0)
    append(cli_ring, 6)
    assert gaps(*named, f"--{op}")[0] == 1
    (request,) = feeder
    assert (request.op, request.symbols, request.resolutions) == (
        op,
        symbols,
        resolutions,
    )


def test_accepted_holes_count_for_nothing(gaps, cli_writer, cli_ring, feeder) -> None:
    append(cli_ring, 6)
    accepted = [record(5, "none_at_venue", "accepted")]
    feeder.act = lambda _: cli_writer.set_holes(KEY, accepted)
    code, output, _ = gaps("--accept")
    assert code == 0
    assert "accepted by shmfeed gaps --accept" in output


def test_a_retry_waits_for_the_bars(gaps, cli_writer, cli_ring, feeder) -> None:
    append(cli_ring, 6)
    block = np.repeat(cli_ring.reader.snapshot(3).block, [1, 2, 1], axis=1)
    block.view(np.int64)[0] = START + np.array([3, 4, 5, 6]) * MINUTE
    block.view(np.int64)[1] = block.view(np.int64)[0] + MINUTE
    late: list[threading.Timer] = []

    def fill_soon(_: ControlRequest) -> None:
        late.append(threading.Timer(0.1, cli_writer.replace_rows, (*KEY, block)))
        late[0].start()

    feeder.act = fill_soon
    code, output, _ = gaps("--retry")
    late[0].join()
    assert (code, "no bars are missing" in output) == (0, True)


@pytest.mark.parametrize("op", ["retry", "accept"])
def test_without_a_feeder_it_is_exit_2(gaps, cli_ring, feed_name, op) -> None:
    append(cli_ring, 6)
    code, output, errors = gaps(f"--{op}")
    assert (code, output) == (2, "")
    assert f"no feeder of feed '{feed_name}' runs, and only a feeder can {op}" in errors


def test_both_at_once_are_refused(gaps, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        gaps("--retry", "--accept")
    assert ended.value.code == 2


def test_an_unsubscribed_stream_is_listed_by_its_name_alone(feed_name, capsys) -> None:
    with create(feed_name, history=9) as writer:
        append(writer.add_stream("A", "1m"), 1, 3)
        writer.unsubscribe("A", "1m")
        assert main(["gaps", "--feed", feed_name]) == 0
        assert main(["gaps", "A", "1m", "--feed", feed_name]) == 1
        writer.close(unlink=True)
