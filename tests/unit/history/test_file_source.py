"""History from CSV and Parquet files."""

import math
import os
import sys
import tracemalloc

import pandas as pd
import pytest

from shmfeed.bar import NO_TRADE, UNCONFIRMED
from shmfeed.history import file_source
from shmfeed.history.blocks import times_of
from shmfeed.history.file_source import FileSource
from shmfeed.history.interface import HistoryError, HistoryRequest
from shmfeed.memory.rows import Rows

MINUTE = 60_000
START = 1_700_000_040_000
KEY = ("BTCUSDT", "1m")
HEADER = "symbol,timeframe,open_time,close_time,open,high,low,close,volume,money,flags"


def frame(count=10, symbol="BTCUSDT", timeframe="1m", **columns):
    opened = [START + n * MINUTE for n in range(count)]
    data = {
        "symbol": symbol,
        "timeframe": timeframe,
        "open_time": opened,
        "close_time": [one + MINUTE for one in opened],
        "open": 1.0,
        "high": 2.0,
        "low": 0.5,
        "close": [1.0 + n / 100 for n in range(count)],
        "volume": 3.0,
        "money": 4.0,
        "flags": 1,
    }
    return pd.DataFrame(data | columns)


def write(frame, path):
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    return str(path)


def fetch(path, key=KEY, first=0, last=0, newest=1000, **options):
    return FileSource(path, **options).fetch(HistoryRequest(key, first, last, newest))


def fails(path):
    with pytest.raises(HistoryError) as caught:
        fetch(path)
    return caught.value


@pytest.fixture(params=[".csv", ".parquet"])
def ending(request):
    return request.param


class TestBothKinds:
    def test_the_bars_of_a_stream(self, tmp_path, ending):
        both = pd.concat([frame(), frame(3, "ETHUSDT"), frame(4, timeframe="1h")])
        path = write(both, tmp_path / f"bars{ending}")
        page = fetch(path)
        assert times_of(page.block).tolist() == [START + n * MINUTE for n in range(10)]
        assert page.follows is None
        bar = Rows(page.block, 0).bar(1)
        assert bar == (START + MINUTE, START + 2 * MINUTE, 1, 2, 0.5, 1.01, 3, 4, 0)
        assert fetch(path, ("XRPUSDT", "1m")).block.shape == (9, 0)

    def test_a_range_and_the_newest(self, tmp_path, ending):
        path = write(frame(), tmp_path / f"bars{ending}")
        page = fetch(path, KEY, START + 2 * MINUTE, START + 4 * MINUTE, 0)
        assert times_of(page.block).tolist() == [START + n * MINUTE for n in (2, 3, 4)]
        page = fetch(path, newest=3)
        assert times_of(page.block).tolist() == [START + n * MINUTE for n in (7, 8, 9)]
        page = fetch(path, last=START + 5 * MINUTE, newest=2)
        assert times_of(page.block).tolist() == [START + n * MINUTE for n in (4, 5)]

    def test_columns_may_lack_and_come_in_any_order(self, tmp_path, ending):
        some = frame()[["close", "low", "high", "open", "volume", "open_time"]]
        some = some.assign(other="x", timeframe="60m", symbol="BTCUSDT")
        some["open_time"] = [1_700_002_800_000 + n * 60 * MINUTE for n in range(10)]
        path = write(some, tmp_path / f"bars{ending}")
        bar = Rows(fetch(path, ("BTCUSDT", "1h")).block, 0).bar(0)
        assert bar[:7] == (1_700_002_800_000, 1_700_006_400_000, 1, 2, 0.5, 1.0, 3)
        assert math.isnan(bar.money)

    def test_unconfirmed_rows_are_no_history(self, tmp_path, ending):
        flags = [1] * 8 + [1 | UNCONFIRMED, 2 | NO_TRADE]
        path = write(frame(flags=flags), tmp_path / f"bars{ending}")
        block = Rows(fetch(path).block, 0)
        assert len(block) == 9
        assert block["flags"].tolist() == [0] * 8 + [NO_TRADE]

    def test_bars_that_have_not_closed_are_left_out(self, tmp_path, ending):
        path = write(frame(), tmp_path / f"bars{ending}")
        now = (START + 5 * MINUTE + 1) / 1000
        assert fetch(path, now=lambda: now).block.shape[1] == 5

    def test_a_column_that_lacks(self, tmp_path, ending):
        path = write(frame().drop(columns=["volume"]), tmp_path / f"bars{ending}")
        error = fails(path)
        assert error.kind == "malformed"
        assert "its header lacks volume" in str(error)

    def test_rows_out_of_order(self, tmp_path, ending):
        path = write(frame().iloc[::-1], tmp_path / f"bars{ending}")
        assert "row 2 of 10, 2023-11-14 22:22:00: not after" in str(fails(path))

    def test_no_such_file(self, tmp_path, ending):
        path = tmp_path / f"bars{ending}"
        error = fails(str(path))
        assert error.kind == "away"
        assert f"the file {path} cannot be read: " in str(error)

    def test_a_pipe_is_not_waited_for(self, tmp_path, ending):
        path = tmp_path / f"pipe{ending}"
        os.mkfifo(path)
        error = fails(str(path))
        assert str(error) == f"the file {path}: it is no regular file"

    def test_another_case_of_the_symbol(self, tmp_path, ending):
        path = write(frame(symbol="btcusdt"), tmp_path / f"bars{ending}")
        assert fetch(path).block.shape[1] == 10

    def test_rubbish(self, tmp_path, ending):
        path = tmp_path / f"bars{ending}"
        path.write_bytes(b"\x00\xff" * 1000)
        assert fails(str(path)).kind == "malformed"

    def test_an_empty_file(self, tmp_path, ending):
        path = tmp_path / f"bars{ending}"
        path.touch()
        assert fails(str(path)).kind == "malformed"


class TestCsv:
    def test_it_is_read_once_and_again_when_it_changes(self, tmp_path, monkeypatch):
        path = tmp_path / "bars.csv"
        write(frame(3), path)
        read = []
        wrapped = FileSource._read_csv
        monkeypatch.setattr(
            FileSource, "_read_csv", lambda self: read.append(1) or wrapped(self)
        )
        source = FileSource(str(path))
        request = HistoryRequest(KEY, 0, 0, 100)
        for _ in range(3):
            assert source.fetch(request).block.shape[1] == 3
        write(frame(5), tmp_path / "new.csv")
        (tmp_path / "new.csv").replace(path)
        assert source.fetch(request).block.shape[1] == 5
        assert len(read) == 2

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("BTCUSDT,1m,x,,1,2,0.5,1,3,,", "line 2: could not convert"),
            ("BTCUSDT,1m", "line 2: it is too short"),
            ("BTCUSDT,10m,1,,1,2,0.5,1,3,,", "line 2: timeframe '10m' is not accepted"),
            ("x" * 100_000, "a line is longer than 65536 characters"),
        ],
    )
    def test_bad_lines(self, tmp_path, text, words):
        path = tmp_path / "bars.csv"
        path.write_text(f"{HEADER}\n{text}\n")
        assert words in str(fails(str(path)))

    def test_a_line_without_end_is_not_read(self, tmp_path):
        path = tmp_path / "bars.csv"
        path.write_bytes(b"0" * (8 << 20))
        tracemalloc.start()
        try:
            error = fails(str(path))
            assert tracemalloc.get_traced_memory()[1] < 2 << 20
        finally:
            tracemalloc.stop()
        assert "a line is longer than 65536 characters" in str(error)

    def test_too_many_rows(self, tmp_path, monkeypatch):
        monkeypatch.setattr(file_source, "MAX_ROWS", 5)
        assert "more than 5 rows" in str(fails(write(frame(), tmp_path / "bars.csv")))


class TestParquet:
    def test_without_pyarrow(self, tmp_path, monkeypatch):
        path = write(frame(), tmp_path / "bars.parquet")
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        assert "needs the package pyarrow: pip install pyarrow" in str(fails(path))

    def test_timestamps(self, tmp_path):
        times = pd.to_datetime([START + n * MINUTE for n in range(10)], unit="ms")
        path = write(frame(open_time=times), tmp_path / "bars.parquet")
        assert times_of(fetch(path).block)[0] == START
