"""Versions of bars in a store's file, against a model that is a dict."""

import math
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

from shmfeed.bar import AFTER_GAP, Bar
from shmfeed.store import file as store_file
from shmfeed.store.file import StoreFile
from shmfeed.store.schema import StoreError

LONG = ("ETHUSDT", "1M")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "bars.sqlite"


@pytest.fixture
def file(path):
    with StoreFile(str(path), IDENTITY, replace=False) as opened:
        yield opened


def test_each_version_of_a_bar_is_kept(file, path):
    file.write([version_of(0), version_of(1)])
    file.write([version_of(0, 1.75, flags=65, cause="revised", late=900)])
    assert stored(path) == [
        (START, 1, 1.5, "closed"),
        (START, 2, 1.75, "revised"),
        (START + MINUTE, 1, 1.5, "closed"),
    ]
    published = [time // 10**6 - START for (time,) in stored(path, "published")]
    assert published == [MINUTE + 50, MINUTE + 900, 2 * MINUTE + 50]


def test_versions_of_one_bar_in_one_batch(file, path):
    later = [version_of(0, 1.5 + n / 8, cause="revised") for n in range(3)]
    file.write([*later, version_of(1)])
    assert [row[1:3] for row in stored(path)] == [
        (1, 1.5), (2, 1.625), (3, 1.75), (1, 1.5),
    ]  # fmt: skip


def test_a_version_that_was_had_is_left_out(file, path):
    file.write([version_of(0), version_of(1)])
    file.write([version_of(0, late=999), version_of(1)])
    assert len(stored(path)) == 2
    file.write([version_of(0, flags=9, cause="doubted")])  # its flags differ
    assert len(stored(path)) == 3


def test_values_come_back_as_they_were(file):
    values = (0.1 + 0.2, 1e300, 5e-324, 1 / 3, 0.0)
    bar = Bar(START, START + MINUTE, values[0], values[1], *values[2:], 1e16 + 2, 511)
    file.write([version_of(0)._replace(bar=bar)])
    (found,) = file.newest(KEY, 5).T
    assert tuple(found[2:8]) == bar[2:8]
    assert [int(n) for n in file.newest(KEY, 5).view(np.int64)[[0, 1, 8], 0]] == [
        START,
        START + MINUTE,
        511,
    ]


def test_numbers_of_numpy(file):
    bar = bar_at(0)
    odd = Bar(
        np.int64(bar[0]), np.int64(bar[1]), *map(np.float64, bar[2:8]), np.int64(1)
    )
    file.write([version_of(0)._replace(bar=odd, received=np.int64(5))])
    assert int(file.newest(KEY, 1).view(np.int64)[0, 0]) == START


def test_newest_rows_are_those_of_the_newest_versions(file):
    file.write([version_of(number) for number in range(10)])
    file.write([version_of(8, 1.25, cause="revised")])
    block = file.newest(KEY, 3)
    assert block[0].view(np.int64).tolist() == [START + n * MINUTE for n in (7, 8, 9)]
    assert block[5].tolist() == [1.5, 1.25, 1.5]
    assert file.newest(("none", "1m"), 3).shape == (9, 0)


def test_months(file):
    opens = [START, 1_769_904_000_000, 1_772_323_200_000]
    bars = [bar_at(0, key=LONG)._replace(open_time=at) for at in opens]
    file.write([version_of(0, key=LONG)._replace(bar=bar) for bar in bars])
    block = file.newest(LONG, 5)
    assert block[1].view(np.int64).tolist() == [*opens[1:], 1_775_001_600_000]
    assert block[8].view(np.int64).tolist() == [1, 1, 1]


def test_unsound_rows_are_left_out(file, path):
    file.write([version_of(number) for number in range(6)])
    with closing(sqlite3.connect(path)) as connection:
        for change in (
            f"close = 9e9 WHERE open_time = {START}",
            f"volume = -1 WHERE open_time = {START + MINUTE}",
            f"open_time = open_time + 7 WHERE open_time = {START + 2 * MINUTE}",
        ):
            connection.execute(f"UPDATE bar_versions SET {change}")
        connection.commit()
    block = file.newest(KEY, 10)
    assert block[0].view(np.int64).tolist() == [START + n * MINUTE for n in (3, 4, 5)]


@pytest.mark.parametrize("rubbish", ["'rubbish'", "x'00ff'", "1e300", "-5"])
@pytest.mark.parametrize("column", ["flags", "open_time"])
def test_rubbish_in_a_column_is_damage(file, path, column, rubbish):
    file.write([version_of(0)])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"UPDATE bar_versions SET {column} = {rubbish}")
        connection.commit()
    with pytest.raises(StoreError, match="is damaged"):
        file.newest(KEY, 1)


def test_a_hole_is_flagged(file):
    file.write([version_of(n) for n in (0, 1, 4)])
    file.write([version_of(5, flags=1 | AFTER_GAP)])
    assert file.newest(KEY, 9)[8].view(np.int64).tolist() == [1, 1, 1 | AFTER_GAP, 1]


class TestCatchUp:
    def test_rows_that_are_missing_or_differ(self, file, path):
        file.write([version_of(n) for n in (0, 1, 3)])
        rows = [bar_at(0), bar_at(1, 1.75), bar_at(2), bar_at(3), bar_at(4)]
        assert file.catch_up(KEY, block_of(rows), 77) == 3
        assert stored(path, "(open_time - 1767225600000) / 60000, version, cause") == [
            (0, 1, "closed"),
            (1, 1, "closed"),
            (1, 2, "caught_up"),
            (2, 1, "caught_up"),
            (3, 1, "closed"),
            (4, 1, "caught_up"),
        ]
        assert stored(path, "received, published")[3] == (None, 77)
        assert file.catch_up(KEY, block_of(rows), 88) == 0

    def test_the_version_that_comes_later_gives_the_times(self, file, path):
        file.catch_up(KEY, block_of([bar_at(0)]), 77)
        version = version_of(0)
        file.write([version])
        found = stored(path, "version, received, published, cause")
        assert found == [(1, version.received, version.published, "closed")]

    def test_no_rows(self, file):
        assert file.catch_up(KEY, np.empty((9, 0)), 77) == 0


class TestKeep:
    def test_old_bars_are_dropped_in_steps(self, file, path, monkeypatch):
        monkeypatch.setattr(store_file, "_DROPPED", 100)
        file.write([version_of(number) for number in range(1440 + 250)])
        file.write([version_of(number, key=LONG) for number in range(3)])
        now = START + 365 * 86_400_000
        steps = []
        while dropped := file.drop_older({"1m": 1.0}, now):
            steps.append(dropped)
        assert steps == [100, 100, 49]
        opens = stored(path, "open_time, timeframe")
        assert opens[0] == (START + 249 * MINUTE, "1m")
        assert sum(1 for _, timeframe in opens if timeframe == "1M") == 3

    def test_a_clock_that_is_ahead_drops_nothing(self, file, path):
        file.write([version_of(number) for number in range(100)])
        assert file.drop_older({"1m": 1.0}, START + 10**12) == 0
        assert len(stored(path)) == 100

    def test_the_file_shrinks(self, file, path):
        file.write([version_of(number) for number in range(20_000)])
        file._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        before = path.stat().st_size
        while file.drop_older({"1m": 1.0}, START + 10**12):
            pass
        file._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert path.stat().st_size < before / 5


class TestPlace:
    @pytest.mark.parametrize("name", ["bars.sqlite", "bars.sqlite-wal"])
    def test_a_file_that_is_taken_away(self, file, path, name):
        file.write([version_of(0)])
        path.with_name(name).rename(path.with_name("away"))
        with pytest.raises(StoreError, match="was moved"):
            file.write([version_of(1)])
        with pytest.raises(StoreError, match="was moved"):
            file.catch_up(KEY, block_of([bar_at(0)]), 1)

    def test_a_file_that_is_replaced(self, file, path):
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink()
        with StoreFile(str(path), IDENTITY, replace=False) as other:
            other.write([version_of(0)])
            with pytest.raises(StoreError, match="was moved"):
                file.write([version_of(1)])
        assert stored(path, "open_time") == [(START,)]

    def test_a_link_is_followed(self, tmp_path):
        (tmp_path / "disk").mkdir()
        link = tmp_path / "bars.sqlite"
        link.symlink_to(tmp_path / "disk" / "real.sqlite")
        with StoreFile(str(link), IDENTITY, replace=False) as file:
            file.write([version_of(0)])
            file.write([version_of(1)])
        assert len(stored(tmp_path / "disk" / "real.sqlite")) == 2

    def test_its_files_are_private(self, file, path):
        file.write([version_of(0)])
        for suffix in ("", "-wal", "-shm"):
            status = path.with_name(path.name + suffix).stat()
            assert status.st_mode & 0o777 == 0o600


class TestTwoWriters:
    def test_versions_of_two_feeders(self, file, path):
        with StoreFile(str(path), IDENTITY, replace=False) as other:
            for number in range(5):
                (file, other)[number % 2].write([version_of(number)])
                (other, file)[number % 2].write([version_of(number, 1.25)])
                other.write([version_of(number, key=("ETHUSDT", "1m"))])
            file.write([version_of(9, key=("ETHUSDT", "1m"))])
        assert [row[1] for row in stored(path)] == [1, 2] * 5 + [1] * 6


changes = st.lists(
    st.tuples(
        st.sampled_from("wcr"),
        st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3)), max_size=5),
    ),
    max_size=12,
)


@given(changes)
@settings(max_examples=60)
def test_the_file_is_as_a_dict_of_lists(steps):
    """Write, catch up, reopen: each bar's versions are those that differ, in order."""
    model: dict[int, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "bars.sqlite")
        file = StoreFile(str(path), IDENTITY, replace=False)
        for kind, pairs in steps:
            if kind == "r":
                file.close()
                file = StoreFile(str(path), IDENTITY, replace=False)
            elif kind == "w":
                file.write([version_of(n, 1 + value / 8) for n, value in pairs])
                for n, value in pairs:
                    found = model.setdefault(n, [])
                    if found[-1:] != [1 + value / 8]:
                        found.append(1 + value / 8)
            else:
                rows = dict(pairs)
                block = block_of([bar_at(n, 1 + rows[n] / 8) for n in sorted(rows)])
                file.catch_up(KEY, block if rows else np.empty((9, 0)), 7)
                for n, value in rows.items():
                    found = model.setdefault(n, [])
                    if found[-1:] != [1 + value / 8]:
                        found.append(1 + value / 8)
        expected = [
            (START + n * MINUTE, version, close)
            for n in sorted(model)
            for version, close in enumerate(model[n], 1)
        ]
        assert stored(path, "open_time, version, close") == expected
        newest = file.newest(KEY, 99)
        file.close()
        assert newest[5].tolist() == [model[n][-1] for n in sorted(model)]
        assert all(math.isnan(money) for money in newest[7].tolist())


def test_rows_before_a_time_are_dropped_with_all_versions(file, path):
    file.write([version_of(n) for n in range(4)])
    file.write([version_of(1, 1.75, cause="revised")])
    assert file.drop_rows(KEY, START + 2 * MINUTE) == 2
    assert [row[0] for row in stored(path)] == [START + n * MINUTE for n in (2, 3)]
    assert file.drop_rows(KEY, START + 2 * MINUTE) == 0
    file.write([version_of(1)])  # history brings it again
    assert stored(path)[0][:2] == (START + MINUTE, 1)


def test_all_rows_of_a_stream_are_dropped_and_no_other(file, path):
    file.write([version_of(n) for n in range(4)])
    file.catch_up(LONG, block_of([bar_at(0)]), 1)
    assert file.drop_rows(KEY, None) == 4
    assert file.newest(KEY, 9).shape[1] == 0
    assert len(stored(path)) == 1
    assert file.drop_rows(("NEVER", "1m"), None) == 0
    file.write([version_of(0)])
    assert file.newest(KEY, 9).shape[1] == 1
