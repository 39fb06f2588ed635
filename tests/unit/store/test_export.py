"""Files of bars: exact, whole or not there."""

import csv
import math
import os
import sys

import numpy as np
import pandas as pd
import pytest
from support.storing import KEY, bar_at, block_of

from shmfeed.bar_files import ENDINGS
from shmfeed.errors import BadArgumentError
from shmfeed.store.export import EXPORT_COLUMNS, ExportError, export
from shmfeed.whole_file import check_output

BARS = [bar_at(n)._replace(close=1 + n / 3, money=n * 0.1) for n in range(6)]
BARS[2] = BARS[2]._replace(money=math.nan)


def blocks():
    return iter([block_of(BARS[:4]), np.empty((9, 0)), block_of(BARS[4:])])


def same(found, bars):
    for row, bar in zip(found, bars, strict=True):
        for one, other in zip(row, bar, strict=True):
            assert one == other or (math.isnan(one) and math.isnan(other))


def test_csv_reads_back_exactly(tmp_path):
    counts = []
    path = tmp_path / "bars.csv"
    assert export(str(path), KEY, blocks(), counts.append) == 6
    assert counts == [4, 4, 6]
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert tuple(header) == EXPORT_COLUMNS
    assert {tuple(row[:2]) for row in rows} == {KEY}
    same([[float(cell or "nan") for cell in row[2:]] for row in rows], BARS)
    assert rows[0][2] == str(BARS[0].open_time)


def test_parquet_reads_back_exactly(tmp_path):
    path = tmp_path / "bars.parquet"
    assert export(str(path), KEY, blocks()) == 6
    frame = pd.read_parquet(path)
    assert tuple(frame.columns) == EXPORT_COLUMNS
    assert [str(frame.dtypes[name]) for name in ("open_time", "close", "flags")] == [
        "int64",
        "float64",
        "int64",
    ]
    same(frame.iloc[:, 2:].itertuples(index=False), BARS)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_an_error_leaves_the_file_as_it_was(tmp_path, ending):
    path = tmp_path / f"bars.{ending}"
    path.write_text("before")

    def broken():
        yield block_of(BARS)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(str(path), KEY, broken())
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_one(tmp_path):
    (tmp_path / "disk").mkdir()
    link, file = tmp_path / "bars.csv", tmp_path / "disk" / "real.csv"
    link.symlink_to(file)
    for _ in range(2):  # the file is made, and replaced
        assert export(check_output(str(link), ENDINGS), KEY, blocks()) == 6
        assert link.is_symlink()
        assert len(file.read_text().splitlines()) == 7
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["real.csv"]


def test_a_directory_that_is_gone(tmp_path):
    with pytest.raises(ExportError, match="cannot be written: No such file"):
        export(str(tmp_path / "none" / "bars.csv"), KEY, blocks())


def test_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ExportError, match=r"needs pyarrow, .* or write a \.csv file"):
        export(str(tmp_path / "bars.parquet"), KEY, blocks())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("bars", "must end in .csv or .parquet"),
        ("bars.txt", "must end in .csv or .parquet"),
        (".csv", "must end in .csv or .parquet"),
        ("none/bars.csv", "there is no directory '.*none'"),
        ("file/bars.csv", "Not a directory|'.*file' is not a directory"),
        ("folder.csv", "it is a directory"),
        ("pipe.csv", "it is not a regular file"),
        ("null.csv", "it is not a regular file"),
        ("loop.csv", "symbolic links"),
        ("x" * 300 + ".csv", "name too long"),
        ("a\0b.csv", "null"),
    ],
)
def test_targets_that_are_refused(tmp_path, name, fault):
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "null.csv").symlink_to("/dev/null")
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(BadArgumentError, match=f"is not accepted.*({fault})"):
        check_output(str(tmp_path / name), ENDINGS)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("place", "fault"),
    [("bars.csv", "the file is read-only"), ("", "cannot be written by this user")],
)
def test_a_target_without_the_right_to_write(tmp_path, monkeypatch, place, fault):
    (tmp_path / "bars.csv").touch()
    refused = str(tmp_path / place).rstrip("/")
    monkeypatch.setattr(os, "access", lambda path, _: path != refused)
    with pytest.raises(BadArgumentError, match=fault):
        check_output(str(tmp_path / "bars.csv"), ENDINGS)


def test_a_long_name_that_a_file_may_have(tmp_path):
    path = tmp_path / ("x" * 251 + ".csv")
    assert export(check_output(str(path), ENDINGS), KEY, blocks()) == 6
