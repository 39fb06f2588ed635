"""`shmfeed reset`: the bars of a stream are dropped, in ring and store."""

import json
import logging

import pytest
from support.command_line import MINUTE, START, append
from support.feeding import feeder
from support.waiting import until

import shmfeed
from shmfeed.bar import flag_names
from shmfeed.cli.main import main
from shmfeed.segment.mapping import place
from shmfeed.simulator import Venue, verify
from shmfeed.store.reading import StoreReader

pytest_plugins = ["support.command_process"]
pytestmark = pytest.mark.usefixtures("no_settings")

KEY = ("BTCUSDT", "1m")
SEED = 3


def lines(capsys, *arguments):
    code = main([*map(str, arguments)])
    output, errors = capsys.readouterr()
    return code, output.splitlines(), errors


def stored_bars(reader):
    """Return the number of bars that a store has of the stream."""
    if KEY not in reader.streams():
        return 0
    return reader.count(KEY, 0, 1 << 62)


@pytest.fixture
def left(feed_name):
    """Leave a segment with 10 bars of BTCUSDT 1m and 4 of ETHUSDT 1m, and no feeder."""
    with shmfeed.create(feed_name, history=100, max_streams=4) as writer:
        append(writer.add_stream(*KEY), *range(10))
        append(writer.add_stream("ETHUSDT", "1m"), *range(3))
        append(writer.add_stream("ETHUSDT", "1m"), 5)  # after a hole
    with shmfeed.attach(feed_name) as feed:
        yield feed
    place(feed_name).segment.unlink(missing_ok=True)


def test_without_a_feeder_the_command_drops_the_bars(left, feed_name, capsys) -> None:
    ring, other = left.ring(*KEY), left.ring("ETHUSDT", "1m")
    held, epoch, kept_epoch = ring.view(10), ring.epoch, other.epoch
    values = held["close"].tolist()
    assert lines(capsys, "reset", "BTCUSDT", "--feed", feed_name) == (
        0,
        [f"feed {feed_name}: BTCUSDT 1m: 10 bars dropped"],
        "",
    )
    assert (len(ring.view(10)), ring.count) == (0, 10)
    assert ring.epoch > epoch
    assert (len(other.view(9)), other.epoch) == (4, kept_epoch)
    assert held.valid
    assert held["close"].tolist() == values
    assert lines(capsys, "reset", "BTCUSDT", "--feed", feed_name)[1] == [
        f"feed {feed_name}: BTCUSDT 1m: 0 bars dropped"
    ]


@pytest.mark.parametrize(
    ("before", "kept"),
    [
        ("2024-01-01 00:05", 5),  # bar 4 closes then
        ("2024-01-01 00:05:59", 5),
        ("2024-01-01", 10),
        (str(START + 9 * MINUTE), 1),
        ("2024-01-02", 0),
    ],
)
def test_before_keeps_the_bars_that_close_later(
    left, feed_name, capsys, before, kept
) -> None:
    ring = left.ring(*KEY)
    options = "--feed", feed_name, "--before", before, "--json"
    code, output, _ = lines(capsys, "reset", "BTCUSDT", *options)
    assert code == 0
    assert json.loads("".join(output)) == [
        {"symbol": "BTCUSDT", "timeframe": "1m", "rows": 10 - kept, "stored": None}
    ]
    rows = ring.snapshot(100)
    assert rows.open_time.tolist() == [START + n * MINUTE for n in range(10 - kept, 10)]
    assert (ring.count, rows.last) == (10, 10)


def test_a_hole_goes_with_its_bars(left, feed_name, capsys) -> None:
    assert [hole.missing for hole in left.gaps()] == [2]
    assert lines(capsys, "reset", "ETHUSDT", "--feed", feed_name)[0] == 0
    assert left.gaps() == []
    gaps = {one["symbol"]: one["gaps"] for one in left.status()["streams"]}
    assert gaps == {"BTCUSDT": 0, "ETHUSDT": 0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["BTCUSD"], "does not carry BTCUSD"),
        (["BTCUSDT", "--resolutions", "1h"], "of BTCUSDT it carries: 1m"),
        (["BTCUSDT", "--resolutions", "7m"], "7m"),
        (["BTC USDT"], "'BTC USDT' is not accepted"),
        (["BTCUSDT", "--before", "soon"], "is not a time"),
        (["BTCUSDT", "--owner", "65534"], "only that user can reset its streams"),
    ],
)
def test_bad_arguments_drop_nothing(
    left, feed_name, capsys, arguments, message
) -> None:
    try:
        code = main(["reset", *arguments, "--feed", feed_name])
    except SystemExit as error:
        code = error.code
    assert code == 2
    assert message in capsys.readouterr().err
    assert len(left.ring(*KEY).view(100)) == 10


def test_a_writer_that_is_no_feeder_keeps_its_bars(cli_ring, feed_name, capsys) -> None:
    code, _, errors = lines(capsys, "reset", "BTCUSDT", "--feed", feed_name)
    assert code == 1
    assert "is written by process" in errors
    assert len(cli_ring.reader.view(9)) == 5


def test_a_feeder_drops_the_bars_and_history_fills_them_again(
    feed_name, capsys, tmp_path
) -> None:
    store = tmp_path / "bars.sqlite"
    with Venue(protocol="binance", seed=SEED, resolutions=["1m"]) as venue:
        options = {
            "protocol": "binance",
            "market_type": "spot",
            "rest_endpoint": venue.rest_url,
            "store": str(store),
        }
        with (
            feeder(feed_name, venue, **options),
            shmfeed.attach(feed_name, timeout=10) as feed,
            StoreReader(str(store)) as reader,
        ):
            ring = feed.ring(*KEY)
            until(lambda: len(ring.view(100)) == 100)
            until(lambda: stored_bars(reader) >= 100)
            epoch = ring.epoch
            code, output, errors = lines(
                capsys, "reset", "BTCUSDT", "--feed", feed_name
            )
            assert (code, errors) == (0, "")
            start = f"feed {feed_name}: BTCUSDT 1m: 100 bars dropped, 10"
            assert output[0].startswith(start)  # a bar may have closed meanwhile
            assert output[0].endswith(" from the store")
            assert ring.epoch > epoch
            until(lambda: len(ring.view(100)) == 100, what="the history again")
            rows = ring.snapshot(100)
            assert verify(SEED, *KEY, rows) == 0
            names = flag_names(int(rows["flags"][0]))
            assert "backfilled" in names
            assert "after_gap" not in names
            until(lambda: stored_bars(reader) >= 100)
            assert feed.gaps() == []


def test_without_history_the_stream_begins_anew_and_goes_on(
    feed_name, capsys, caplog
) -> None:
    with Venue(resolutions=["1s"], history=20, seed=SEED) as venue:
        with (
            feeder(feed_name, venue, resolutions=["1s"]),
            shmfeed.attach(feed_name, timeout=10) as feed,
        ):
            ring = feed.ring("BTCUSDT", "1s")
            assert ring.wait(20, timeout=10)
            caplog.set_level(logging.WARNING)
            assert lines(capsys, "reset", "BTCUSDT", "--feed", feed_name)[0] == 0
            dropped = [one for one in caplog.messages if "a reset dropped" in one]
            assert len(dropped) == 1
            assert dropped[0].endswith(" bars of BTCUSDT 1s")
            until(lambda: len(ring.view(5)) >= 2)
            rows = ring.snapshot(100)
            assert len(rows) < 20
            assert verify(SEED, "BTCUSDT", "1s", rows) == 0
            assert set((rows.open_time[1:] - rows.open_time[:-1]).tolist()) == {1000}
            assert feed.status()["revisions"] == 0
            assert feed.status()["gaps"] == 0
