"""`shmfeed tail`: text, CSV and JSON, the number of bars, and --follow."""

import csv
import io
import json
import os
import signal

import pytest
from support.command_line import MINUTE, START, append, end

from shmfeed.bar import (
    AFTER_GAP,
    BACKFILLED,
    CLOSED_BY_NEXT,
    NO_TRADE,
    POLLED,
    REVISED,
    UNCONFIRMED,
    Bar,
)
from shmfeed.cli.main import main
from shmfeed.writer import create

pytest_plugins = ["support.command_process"]
pytestmark = pytest.mark.usefixtures("no_settings")

HEADER = "CLOSE TIME  OPEN  HIGH  LOW  CLOSE  VOLUME  MONEY  CLOSED BY"


@pytest.fixture
def tail(feed_name, cli_ring, capsys):
    """Run it on this test's feed; return exit code, lines and errors."""

    def run(*arguments: str) -> tuple[int, list[str], str]:
        line = ["tail", *arguments, "--feed", feed_name]
        code = main(line)
        output, errors = capsys.readouterr()
        return code, output.splitlines(), errors

    return run


def test_text_is_aligned_and_its_time_is_the_close(tail) -> None:
    code, lines, errors = tail("BTCUSDT", "1m", "-n", "2")
    assert (code, errors) == (0, "")
    assert lines == [
        "CLOSE TIME            OPEN  HIGH  LOW  CLOSE  VOLUME  MONEY  CLOSED BY",
        "2024-01-01T00:04:00Z     4  5.25  3.5  4.125       3      -  venue",
        "2024-01-01T00:05:00Z     5  6.25  4.5  5.125       4     40  venue",
    ]


def test_csv_reads_back_exactly(tail, cli_ring) -> None:
    _, lines, _ = tail("BTCUSDT", "1m", "--csv")
    rows = list(csv.DictReader(io.StringIO("\n".join(lines))))
    assert len(rows) == 5
    assert list(rows[0]) == ["time", *Bar._fields]
    assert rows[0]["time"] == "2024-01-01T00:01:00Z"
    for number, row in enumerate(rows):
        assert int(row["open_time"]) == START + number * MINUTE
        assert float(row["high"]) == number + 2.25
        assert row["money"] == ("" if number % 2 else repr(10.0 * number))


def test_json_reads_back_exactly(tail, cli_ring) -> None:
    _, lines, _ = tail("BTCUSDT", "1m", "--json", "-n", "2")
    first, second = map(json.loads, lines)
    assert first.pop("time") == "2024-01-01T00:04:00Z"
    assert first["money"] is None
    del second["time"]
    assert Bar(**second) == cli_ring.reader.last_closed()


@pytest.mark.parametrize(("number", "printed"), [(0, 0), (1, 1), (5, 5), (99_999, 5)])
def test_the_number_of_bars(tail, number, printed) -> None:
    assert len(tail("BTCUSDT", "1m", "--json", "-n", str(number))[1]) == printed
    assert len(tail("BTCUSDT", "1m", "-n", str(number))[1]) == printed + 1


def test_a_stream_without_bars_is_a_header(tail, cli_writer) -> None:
    cli_writer.add_stream("ETHUSDT", "1h")
    assert tail("ETHUSDT", "1h") == (0, [HEADER], "")


def test_flags_are_named(tail, cli_ring) -> None:
    append(cli_ring, 7, flags=CLOSED_BY_NEXT | UNCONFIRMED | AFTER_GAP)
    assert tail("BTCUSDT", "1m", "-n", "1")[1][1].endswith(
        "  next unconfirmed after-gap"
    )


def test_flags_of_history_are_named(tail, cli_ring) -> None:
    append(cli_ring, 7, flags=BACKFILLED | REVISED | NO_TRADE)
    append(cli_ring, 8, flags=POLLED)
    lines = tail("BTCUSDT", "1m", "-n", "2")[1]
    assert lines[1].endswith("  backfilled revised no-trade")
    assert lines[2].endswith("  polled")


def test_an_alias_of_a_timeframe_is_accepted(tail) -> None:
    assert tail("BTCUSDT", "minute")[0] == 0


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (("BTCUSDT", "1h"), "does not carry BTCUSDT 1h; it carries: BTCUSDT 1m"),
        (("btcusdt", "1m"), "does not carry btcusdt 1m; it carries: BTCUSDT 1m"),
        (("BTCUSDT", "7m"), "timeframe '7m' is not accepted; one of: 1s 1m"),
        (("BTC USDT", "1m"), "symbol 'BTC USDT' is not accepted"),
    ],
)
def test_an_unknown_stream_is_exit_2_and_lists_the_streams(tail, key, message) -> None:
    code, lines, errors = tail(*key)
    assert (code, lines) == (2, [])
    assert errors.startswith("shmfeed: ")
    assert message in errors


@pytest.mark.parametrize("number", ["-1", "x", "1.5", "٣"])
def test_a_number_of_bars_must_be_a_number(number, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["tail", "BTCUSDT", "1m", "-n", number])
    assert ended.value.code == 2


def _follow(command, feed_name, *more):
    arguments = "tail", "BTCUSDT", "1m", "--feed", feed_name, "-n", "1", "-f"
    process = command(*arguments, *more)
    return process, iter(process.stdout.readline, "")


def _numbers(lines, count) -> list[int]:
    bars = [json.loads(next(lines)) for _ in range(count)]
    return [(bar["open_time"] - START) // MINUTE for bar in bars]


def test_follow_prints_each_bar_once_as_it_closes(command, cli_ring, feed_name) -> None:
    process, lines = _follow(command, feed_name, "--json")
    assert _numbers(lines, 1) == [4]
    append(cli_ring, 5)
    assert _numbers(lines, 1) == [5]
    append(cli_ring, *range(6, 60))
    assert _numbers(lines, 54) == list(range(6, 60))
    assert end(process) == (130, "", "")


def test_follow_prints_one_header(command, cli_ring, feed_name) -> None:
    process, lines = _follow(command, feed_name)
    assert next(lines).startswith("CLOSE TIME")
    assert next(lines).startswith("2024-01-01T00:05:00Z")
    append(cli_ring, 5)
    assert next(lines).startswith("2024-01-01T00:06:00Z")
    assert end(process, signal.SIGINT) == (130, "", "")


def test_follow_survives_the_recreation_of_the_feed(
    command, cli_writer, cli_ring, feed_name
) -> None:
    process, lines = _follow(command, feed_name, "--json")
    assert _numbers(lines, 1) == [4]
    cli_writer.close(unlink=True)
    assert "feeder is dead; waiting" in process.stderr.readline()
    # Recreated with another size, without the stream at first: numbers start again.
    with create(feed_name, history=50, max_streams=8) as successor:
        successor.add_stream("ETHUSDT", "1m")
        assert "does not carry BTCUSDT 1m" in process.stderr.readline()
        ring = successor.add_stream("BTCUSDT", "1m")
        append(ring, 3, 4, 5, 6)
        assert _numbers(lines, 2) == [5, 6]
        said = process.stderr.readline()
        assert said == f"shmfeed: the feed was recreated, by feeder pid {os.getpid()}\n"
        append(ring, 7)
        assert _numbers(lines, 1) == [7]
        assert end(process)[:2] == (130, "")
        successor.close(unlink=True)


def test_follow_continues_in_a_larger_ring(command, cli_writer, cli_ring, feed_name):
    """In a recreated ring with spare capacity the first row is not number 0."""
    append(cli_ring, *range(5, 400))  # the first ones are overwritten
    process, lines = _follow(command, feed_name, "--json")
    assert _numbers(lines, 1) == [399]
    cli_writer.close()
    with create(feed_name, history=2000, max_streams=8) as successor:
        ring = successor.add_stream("BTCUSDT", "1m")
        assert ring.reader.view(2000).first > 0
        append(ring, 400)
        assert _numbers(lines, 1) == [400]
        append(ring, 401)
        assert _numbers(lines, 1) == [401]
        assert end(process)[:2] == (130, "")
        successor.close(unlink=True)


def test_follow_tells_another_feeder(command, cli_writer, cli_ring, feed_name) -> None:
    process, lines = _follow(command, feed_name, "--json")
    assert _numbers(lines, 1) == [4]
    cli_writer.close()
    with create(feed_name, history=100, guard=16, max_streams=8) as successor:
        append(successor.add_stream("BTCUSDT", "1m"), 5)
        assert _numbers(lines, 1) == [5]
        said = process.stderr.readline()
        if "the feeder is dead; waiting" in said:
            said = process.stderr.readline()
        assert said == f"shmfeed: another feeder writes the feed, pid {os.getpid()}\n"
        assert end(process)[:2] == (130, "")


def test_follow_ends_with_its_reader_though_no_bar_closes(
    command, cli_ring, feed_name
) -> None:
    process, lines = _follow(command, feed_name, "--json")
    next(lines)
    process.stdout.close()
    assert process.wait(20) == 141
    assert process.stderr.read() == ""


class TestForming:
    def test_it_follows_the_closed_bars(self, tail, cli_ring) -> None:
        form(cli_ring, 5, 9.5)
        lines = tail("BTCUSDT", "1m", "-n", "1", "--forming")[1]
        assert lines[1].endswith("  venue")
        assert lines[2].startswith("2024-01-01T00:06:00Z")
        assert lines[2].endswith("  forming")
        (found,) = tail("BTCUSDT", "1m", "-n", "0", "--forming", "--json")[1]
        assert json.loads(found)["forming"] is True
        assert json.loads(found)["close"] == 9.5

    def test_without_one_there_is_no_line(self, tail) -> None:
        assert len(tail("BTCUSDT", "1m", "-n", "1", "--forming")[1]) == 2

    def test_a_csv_has_closed_bars_alone(self, tail) -> None:
        code, _, errors = tail("BTCUSDT", "1m", "--forming", "--csv")
        assert code == 2
        assert "--forming and --csv are both given" in errors

    def test_follow_prints_its_changes(self, command, cli_ring, feed_name) -> None:
        process, lines = _follow(command, feed_name, "--json", "--forming")
        assert json.loads(next(lines))["close"] == 5.125
        for price in (9.5, 9.25):
            form(cli_ring, 5, price)
            found = json.loads(next(lines))
            assert (found["forming"], found["close"]) == (True, price)
        append(cli_ring, 5)
        found = json.loads(next(lines))
        assert "forming" not in found
        assert end(process) == (130, "", "")


def form(ring, number: int, price: float) -> None:
    """Let bar `number` form, at this price."""
    ring.update_forming(START + number * MINUTE, 9.0, 10.0, 8.0, price, 1.0)
