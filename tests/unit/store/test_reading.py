"""Rows of a store in pieces, and the rows that a reader could see at a time."""

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.storing import (
    IDENTITY,
    KEY,
    MINUTE,
    START,
    bar_at,
    block_of,
    stored,
    version_of,
)

from shmfeed.bar import BACKFILLED
from shmfeed.errors import BadArgumentError, StreamNotFoundError
from shmfeed.store import reading
from shmfeed.store.file import StoreFile
from shmfeed.store.reading import StoreReader

NS = 1_000_000
MONTHLY = ("ETHUSDT", "1M")
ALWAYS = (0, 1 << 60)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "bars.sqlite"


@pytest.fixture
def file(path):
    with StoreFile(str(path), IDENTITY, replace=False) as opened:
        yield opened


@pytest.fixture
def reader(path, file):
    with StoreReader(str(path)) as opened:
        yield opened


def seen(reader, minute, count=10, key=KEY):
    rows = reader.as_of(key, (START + round(minute * MINUTE)) * NS, count)
    return [((row.bar.open_time - START) // MINUTE, row.bar.close) for row in rows]


class TestRows:
    def test_pieces(self, file, reader, monkeypatch):
        monkeypatch.setattr(reading, "PIECE", 4)
        file.write([version_of(number) for number in range(10)])
        file.write([version_of(3, 1.75)])
        blocks = list(reader.rows(KEY, *ALWAYS))
        assert [block.shape[1] for block in blocks] == [4, 4, 2]
        assert (
            np.concatenate(blocks, axis=1)[5].tolist() == [1.5] * 3 + [1.75] + [1.5] * 6
        )
        within = START + 2 * MINUTE, START + 3 * MINUTE
        assert [block.shape[1] for block in reader.rows(KEY, *within)] == [2]
        assert reader.count(KEY, *within) == 2
        assert reader.count(KEY, *ALWAYS) == 10

    def test_streams(self, file, reader):
        file.write([version_of(0), version_of(0, key=MONTHLY)])
        assert reader.streams() == [KEY, MONTHLY]

    def test_a_stream_that_it_does_not_have(self, file, reader):
        file.write([version_of(0)])
        for ask in (
            lambda: list(reader.rows(MONTHLY, *ALWAYS)),
            lambda: reader.count(MONTHLY, *ALWAYS),
            lambda: reader.as_of(MONTHLY, 0, 1),
        ):
            with pytest.raises(StreamNotFoundError, match="it has: BTCUSDT 1m"):
                ask()

    def test_no_file(self, path):
        with pytest.raises(BadArgumentError, match="is not there"):
            StoreReader(str(path))


class TestReadOnly:
    """A directory without write permission, as root in a child sees none."""

    def test_a_store_that_was_closed(self, path, monkeypatch):
        with StoreFile(str(path), IDENTITY, replace=False) as file:
            file.write([version_of(0)])
        real, modes = sqlite3.connect, []

        def connect(name, **options):
            modes.append(name.partition("?")[2])
            connection = real(name, **options)
            if "immutable" in name:
                return connection
            error = sqlite3.OperationalError("unable to open database file")
            error.sqlite_errorname = "SQLITE_CANTOPEN"
            return Failing(connection, error)

        monkeypatch.setattr(sqlite3, "connect", connect)
        with StoreReader(str(path)) as reader:
            assert reader.streams() == [KEY]
        assert modes == ["mode=ro", "mode=ro&immutable=1"]

    def test_it_writes_nothing(self, path, file, reader):
        file.write([version_of(0)])
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader._connection.execute("DELETE FROM bar_versions")


class Failing:
    def __init__(self, connection, error):
        self.close = connection.close
        self.error = error

    def execute(self, *arguments):
        raise self.error


class TestAsOf:
    def test_only_what_was_published(self, file, reader):
        file.write([version_of(number, late=50) for number in range(5)])
        assert seen(reader, 3) == [(0, 1.5), (1, 1.5)]  # bar 2 came 50 ms later
        at = START * NS + 3 * MINUTE * NS + 50 * NS
        assert [row.bar[:7] for row in reader.as_of(KEY, at, 1)] == [bar_at(2)[:7]]
        assert [row.bar[:7] for row in reader.as_of(KEY, at - 1, 1)] == [bar_at(1)[:7]]

    def test_the_version_of_that_time(self, file, reader):
        file.write([version_of(0), version_of(1)])
        file.write([version_of(0, 1.75, cause="revised", late=5 * MINUTE)])
        assert seen(reader, 4) == [(0, 1.5), (1, 1.5)]
        assert seen(reader, 6) == [(0, 1.75), (1, 1.5)]
        assert seen(reader, 0.5) == []

    def test_a_row_that_was_cut_off_is_seen_until_then(self, file, reader, path):
        ahead, cut = version_of(3), version_of(3, cause="cut", late=10 * MINUTE)
        file.write([version_of(0), ahead])
        file.write([cut])
        file.write([cut])  # twice does no harm
        assert seen(reader, 13) == [(0, 1.5), (3, 1.5)]
        assert seen(reader, 15) == [(0, 1.5)]
        (block,) = reader.rows(KEY, 0, 1 << 60)
        assert block[0].view(np.int64).tolist() == [START]
        assert file.newest(KEY, 5)[0].view(np.int64).tolist() == [START]
        assert len(stored(path)) == 3
        file.write([version_of(3, late=20 * MINUTE)])  # its time has come
        assert seen(reader, 30) == [(0, 1.5), (3, 1.5)]
        assert [row[1] for row in stored(path)] == [1, 1, 2, 3]

    def test_a_row_that_is_there_again_is_caught_up(self, file, reader, path):
        file.write([version_of(3), version_of(3, cause="cut", late=MINUTE)])
        now = bar_at(20).close_time * 10**6
        assert file.catch_up(KEY, block_of([bar_at(3)]), now) == 1
        assert seen(reader, 30) == [(3, 1.5)]

    def test_the_newest_rows(self, file, reader):
        file.write([version_of(number) for number in range(50)])
        assert seen(reader, 40, 3) == [(36, 1.5), (37, 1.5), (38, 1.5)]

    def test_the_times_and_the_cause(self, file, reader):
        version = version_of(0, flags=33, cause="backfilled")
        file.write([version])
        (row,) = reader.as_of(KEY, version.published, 1)
        assert row == (version.bar._replace(money=row.bar.money), 1, *version[2:])

    def test_a_caught_up_bar_is_seen_from_its_close_on(self, file, reader):
        block = block_of([bar_at(0), bar_at(1, flags=BACKFILLED)])
        file.catch_up(KEY, block, (START + 30 * MINUTE) * NS)
        assert seen(reader, 0.99) == []
        assert seen(reader, 1) == [(0, 1.5)]
        assert seen(reader, 29) == [(0, 1.5)]  # history brought the other, later
        assert seen(reader, 30) == [(0, 1.5), (1, 1.5)]

    def test_a_caught_up_month(self, file, reader):
        month = bar_at(0, key=MONTHLY)
        file.catch_up(MONTHLY, block_of([month]), (START + 10**10) * NS)
        close = (month.close_time - START) / MINUTE
        assert seen(reader, close - 1, key=MONTHLY) == []
        assert len(seen(reader, close, key=MONTHLY)) == 1


events = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), max_size=15)


@given(events, st.integers(0, 20), st.integers(1, 5))
@settings(max_examples=60)
def test_as_of_is_a_replay_of_the_versions(changes, until, count):
    """A reader that had taken each version as it came has the same rows."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "bars.sqlite"))
        rows: dict[int, float] = {}
        with StoreFile(path, IDENTITY, replace=False) as file:
            for time, (number, value) in enumerate(changes):
                version = version_of(number, 1 + value / 8)
                file.write([version._replace(published=time * NS)])
                if time <= until:
                    rows[number] = 1 + value / 8
        with closing(StoreReader(path)._connection), StoreReader(path) as reader:
            if not changes:
                assert reader.streams() == []
                return
            found = reader.as_of(KEY, until * NS, count)
        expected = [(START + n * MINUTE, rows[n]) for n in sorted(rows)][-count:]
        assert [(row.bar.open_time, row.bar.close) for row in found] == expected


def test_a_reader_leaves_a_live_store_alone(path, file, reader):
    file.write([version_of(0)])
    assert seen(reader, 9) == [(0, 1.5)]
    assert sorted(one.name for one in path.parent.iterdir()) == [
        "bars.sqlite",
        "bars.sqlite-shm",
        "bars.sqlite-wal",
    ]


class TestAudit:
    def test_closings(self, file, reader):
        file.write([version_of(n, late=10 * n) for n in range(4)])
        file.write([version_of(4, cause="backfilled"), version_of(2, 1.75)])
        first, last = START + MINUTE, START + 4 * MINUTE
        closes = [START + (n + 1) * MINUTE for n in (1, 2, 3)]
        assert reader.closings(KEY, first, last) == [
            (close, (close + late) * NS)
            for close, late in zip(closes, (10, 20, 30), strict=True)
        ]

    def test_changed(self, file, reader):
        file.write([version_of(n) for n in range(4)])
        file.write([version_of(1, 1.75, cause="revised"), version_of(3, 1.25)])
        file.write([version_of(1, 1.5, cause="revised")])
        found = reader.changed(KEY, *ALWAYS)
        closes = [[row.bar.close for row in versions] for versions in found]
        assert closes == [[1.5, 1.75, 1.5], [1.5, 1.25]]
        assert [row.version for row in found[0]] == [1, 2, 3]
        within = START + 2 * MINUTE, START + 4 * MINUTE
        (only,) = reader.changed(KEY, *within)
        assert only[0].bar[:7] == bar_at(3)[:7]

    def test_of_no_such_stream(self, reader):
        for ask in reader.closings, reader.changed:
            with pytest.raises(StreamNotFoundError):
                ask(("NONE", "1m"), *ALWAYS)
