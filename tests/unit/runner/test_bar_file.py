"""Files of bars: each fault names the file, the line and the value."""

from pathlib import Path

import numpy as np
import pytest

from shmfeed.bar import Bar, close_time
from shmfeed.errors import BadArgumentError
from wealthdata.columns import PrivateColumns, to_bars
from wealthdata.runner.bar_file import BarFile, check_streams, read_bar_file

START = 1_767_225_600_000  # 2026-01-01 UTC, a Thursday
MINUTE = 60_000
NAMES = "symbol,timeframe,open_time,close_time,open,high,low,close,volume,money,flags"


def row(
    number: int, symbol: str = "AAA", timeframe: str = "1m", **cells: object
) -> str:
    """Return the line of a bar; `cells` replace its values."""
    opened = START + number * MINUTE
    values: dict[str, object] = {
        "symbol": symbol,
        "timeframe": timeframe,
        "open_time": opened,
        "close_time": opened + MINUTE,
        "open": 10.0 + number,
        "high": 12.5 + number,
        "low": 9.25 + number,
        "close": 11.125 + number,
        "volume": 3.5,
        "money": 40.0,
        "flags": 1,
    }
    return ",".join(str(cell) for cell in (values | cells).values())


def written(tmp_path: Path, *lines: str, header: str = NAMES) -> str:
    path = tmp_path / "bars.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return str(path)


def bars_of(rows: PrivateColumns) -> list[Bar]:
    return to_bars(rows, 0, len(rows))


def test_streams_may_alternate_and_follow_each_other(tmp_path: Path) -> None:
    lines = [
        row(0),
        row(0, "B/USDT"),
        row(1),
        row(2, "B/USDT"),
        row(5, "AAA", "minute"),
    ]
    file = read_bar_file(written(tmp_path, *lines))
    assert list(file.streams) == [("AAA", "1m"), ("B/USDT", "1m")]
    first = bars_of(file.streams["AAA", "1m"])
    values = 10.0, 12.5, 9.25, 11.125, 3.5, 40.0
    assert first[0] == Bar(START, START + MINUTE, *values, 1)
    assert [(bar.open_time - START) // MINUTE for bar in first] == [0, 1, 5]


def test_values_are_those_of_the_text(tmp_path: Path) -> None:
    """Each double is the nearest one, as float() has it."""
    text = "0.1000000000000000055511151231257827"
    line = row(0, open=text, low="1e-17", high="123456789.123456789", close=text)
    bar = bars_of(read_bar_file(written(tmp_path, line)).streams["AAA", "1m"])[0]
    assert (bar.open, bar.low, bar.high) == (0.1, 1e-17, 123456789.123456789)


def test_money_flags_and_close_time_may_be_absent_or_empty(tmp_path: Path) -> None:
    needed = "symbol,timeframe,open_time,open,high,low,close,volume"
    path = written(tmp_path, f"AAA,1m,{START},1,2,0.5,1.5,7", header=needed)
    bar = bars_of(read_bar_file(path).streams["AAA", "1m"])[0]
    assert bar[:7] == (START, START + MINUTE, 1, 2, 0.5, 1.5, 7)
    assert np.isnan(bar.money)
    assert bar.flags == 0
    path = written(tmp_path, row(0, money="", flags="", close_time=""))
    assert bars_of(read_bar_file(path).streams["AAA", "1m"])[0].flags == 0


def test_other_columns_an_order_of_their_own_and_blank_lines(tmp_path: Path) -> None:
    header = "note,close,low,Timeframe, high,open,volume,SYMBOL,open_time"
    lines = ["", f"x,1.5,1,1m,2,1,7,AAA,{START}", ""]
    path = written(tmp_path, *lines, header="\ufeff" + header)
    assert bars_of(read_bar_file(path).streams["AAA", "1m"])[0].close == 1.5


def test_a_close_time_of_the_last_millisecond_is_the_venues_way(tmp_path: Path) -> None:
    path = written(tmp_path, row(0, close_time=START + MINUTE - 1))
    assert read_bar_file(path).streams["AAA", "1m"].close_time[0] == START + MINUTE


SECONDS = START // 1000
FAULTS = {
    "text for a price": (
        [row(0), row(1, close="x")],
        "line 3: close is 'x'; it must be a number",
    ),
    "no price": ([row(0, low="")], "line 2: low is empty; it must be a number"),
    "nan": (
        [row(0), row(1, high="nan")],
        "line 3: high is nan; it must be a finite number",
    ),
    "infinite": (
        [row(0, volume="inf")],
        "line 2: volume is inf; it must be a finite number of at least 0",
    ),
    "negative volume": (
        [row(0, volume=-1)],
        "line 2: volume is -1; it must be a finite number of at least 0",
    ),
    "negative money": ([row(0, money=-2)], "line 2: money is -2;"),
    "low above high": ([row(0, low=20)], "line 2: low 20 is above high 12.5"),
    "open outside": (
        [row(0), "", row(1, open=99)],
        "line 4: open 99 is not between low 10.25 and high 13.5",
    ),
    "close outside": (
        [row(0, close=1)],
        "line 2: close 1 is not between low 9.25 and high 12.5",
    ),
    "a date": (
        [row(0, open_time="2026-01-01")],
        "line 2: open_time is '2026-01-01'; it must be whole milliseconds UTC",
    ),
    "a fraction of a millisecond": (
        [row(0, open_time=f"{START}.5")],
        "line 2: open_time is",
    ),
    "seconds": (
        [row(0, open_time=SECONDS, close_time="")],
        f"open_time is {SECONDS}; it must be milliseconds UTC, between 1990",
    ),
    "beyond int64": (
        [row(0, open_time=10**30)],
        "line 2: open_time is '100000000000000",
    ),
    "another grid": (
        [row(0), row(1, open_time=START + MINUTE + 1, close_time="")],
        "(2026-01-01T00:01:00.001Z) is off the grid of 1m",
    ),
    "another timeframe's length": (
        [row(0, close_time=START + 2 * MINUTE)],
        f"; a 1m bar that opens at {START} closes at {START + MINUTE}",
    ),
    "a week off Monday": (
        [row(0, timeframe="1w", close_time="")],
        "is off the grid of 1w",
    ),
    "a month off its first day": (
        [row(1440, timeframe="1M", close_time="")],
        "is off the grid of 1M",
    ),
    "doubled": (
        [row(0), row(0, "BBB"), row(0)],
        f"line 4: open_time {START} (2026-01-01T00:00:00Z) is that of line 2",
    ),
    "out of order": (
        [row(3), row(0, "BBB"), row(2)],
        "is earlier than that of the stream's row before it, line 2; sort",
    ),
    "another timeframe": (
        [row(0), row(1, timeframe="1min")],
        "line 3: timeframe '1min' is not accepted",
    ),
    "a symbol of its own": ([row(0), row(1, symbol="A A")], "line 3: symbol 'A A'"),
    "no symbol": ([row(0, symbol="")], "line 2: symbol ''"),
    "flags": (
        [row(0, flags=-1)],
        "line 2: flags is -1; it must be an integer from 0 to 4294967295",
    ),
    "flags as text": (
        [row(0, flags="revised")],
        "line 2: flags is 'revised'; it must be an integer",
    ),
    "too few values": (
        [row(0), "AAA,1m"],
        "line 3: it has 2 values, and the header 11 names",
    ),
    "a quote that is not closed": (
        [row(0), "", '"' + row(1), row(2), row(3)],
        "line 4: it has 1 value, and the header 11 names",
    ),
    "too many values": (
        [row(0) + ",1"],
        "line 2: it has 12 values, and the header 11 names",
    ),
    "no rows": ([], "has a header and no rows"),
    "a long line": (
        [row(0, symbol="A" * 70_000)],
        "line 2: it is not CSV: it is longer than 65536 characters",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_names_file_line_and_value(tmp_path: Path, fault: str) -> None:
    lines, wanted = FAULTS[fault]
    path = written(tmp_path, *lines)
    with pytest.raises(BadArgumentError) as caught:
        read_bar_file(path)
    message = str(caught.value)
    assert message.startswith(path)
    assert wanted in message
    assert "\n" not in message


@pytest.mark.parametrize("at", [4094, 4095, 4096, 4097, 9000])
def test_a_fault_in_a_later_block_has_its_own_line(tmp_path: Path, at: int) -> None:
    lines = [row(number) for number in range(9001)]
    lines[at] = row(at, close="?")
    with pytest.raises(BadArgumentError, match=f"line {at + 2}: close is"):
        read_bar_file(written(tmp_path, *lines))


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"", "is empty; a file of bars has a header"),
        (b"\n\n", "is empty; a file of bars has a header"),
        (
            b"symbol,open_time,open\n",
            "line 1: its header lacks timeframe high low close",
        ),
        (NAMES.encode() + b",open\n", "line 1: its header has open twice"),
        (NAMES.encode() + b"\nAAA,\xff\xfe\n", "it is not CSV: "),
        (b"PAR1\x00\x01\n\x00", "header lacks"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, wanted: str) -> None:
    path = tmp_path / "bars.csv"
    path.write_bytes(content)
    with pytest.raises(BadArgumentError) as caught:
        read_bar_file(str(path))
    assert str(path) in str(caught.value)
    assert wanted in str(caught.value)


def test_paths_that_are_no_file(tmp_path: Path) -> None:
    (tmp_path / "bars.txt").write_text(NAMES)
    (tmp_path / "folder.csv").mkdir()
    for name, wanted in {
        "away.csv": "No such file or directory",
        "folder.csv": "it is a directory",
        "bars.txt": "its name must end in .csv or .parquet",
        "nul\0.csv": "embedded null",
    }.items():
        with pytest.raises(BadArgumentError, match=wanted):
            read_bar_file(str(tmp_path / name))


def test_holes_are_told_once_a_stream(tmp_path: Path) -> None:
    lines = [row(number) for number in (0, 1, 5, 6, 8)]
    lines += [row(number, "BBB") for number in range(3)]
    file = read_bar_file(written(tmp_path, *lines))
    first = "the first from 2026-01-01T00:02:00Z to 2026-01-01T00:05:00Z"
    assert list(file.holes()) == [
        f"{file.path}: AAA 1m: 4 bars missing in 2 holes, {first}"
    ]


def test_months_have_no_holes_of_their_own(tmp_path: Path) -> None:
    opens = [START, close_time(START, "1M"), close_time(close_time(START, "1M"), "1M")]
    lines = [row(0, timeframe="1M", open_time=at, close_time="") for at in opens]
    file = read_bar_file(written(tmp_path, *lines))
    assert list(file.holes()) == []
    assert file.streams["AAA", "1M"].close_time[:2].tolist() == opens[1:]
    del lines[1]
    holes = list(read_bar_file(written(tmp_path, *lines)).holes())
    assert "1 bar missing in 1 hole" in holes[0]


MEANT = "it has BTCUSDT ETHUSDT; did you mean BTCUSDT?"


class TestStreams:
    file = BarFile("bars.csv", dict.fromkeys([("BTCUSDT", "1m"), ("ETHUSDT", "1h")]))  # type: ignore[arg-type]

    def test_what_is_there_passes(self) -> None:
        check_streams(self.file, ["BTCUSDT"], ["1m", "1h", "1M"])
        check_streams(self.file, ["ETHUSDT", "BTCUSDT"], ["1h", "1d"])

    @pytest.mark.parametrize(
        ("symbol", "timeframe", "wanted"),
        [
            ("BTCUSTD", "1m", f"has no bar of BTCUSTD; {MEANT}"),
            ("btcusdt", "1m", f"has no bar of btcusdt; {MEANT}"),
            ("BTCUSDT", "1s", "has no bars of BTCUSDT that make 1s; it has 1m"),
            ("ETHUSDT", "3d", "has no bars of ETHUSDT that make 3d; it has 1h"),
        ],
    )
    def test_what_is_not_is_named(
        self, symbol: str, timeframe: str, wanted: str
    ) -> None:
        with pytest.raises(BadArgumentError) as caught:
            check_streams(self.file, [symbol], [timeframe])
        assert str(caught.value) == f"bars.csv {wanted}"


MILLI, TOO = " milliseconds UTC", " of row 1, too"


class TestParquet:
    arrow = pytest.importorskip("pyarrow")

    def write(self, tmp_path: Path, **columns: object) -> str:
        from pyarrow import parquet

        known: dict[str, object] = {
            "symbol": ["AAA", "AAA"],
            "timeframe": ["1m", "1m"],
            "open_time": [START, START + MINUTE],
            "open": [1.0, 2.0],
            "high": [2, 3],
            "low": [0.5, 1.5],
            "close": [1.5, 2.5],
            "volume": [7.0, 8.0],
        }
        path = tmp_path / "bars.parquet"
        parquet.write_table(self.arrow.table(known | columns), path)
        return str(path)

    def test_numbers_times_and_nulls(self, tmp_path: Path) -> None:
        times = np.array([START, START + MINUTE], "M8[ms]").astype("M8[ns]")
        path = self.write(tmp_path, open_time=times, money=[None, 4.0], flags=[None, 1])
        bars = bars_of(read_bar_file(path).streams["AAA", "1m"])
        assert [bar.open_time for bar in bars] == [START, START + MINUTE]
        assert np.isnan(bars[0].money)
        assert [bar.flags for bar in bars] == [0, 1]

    @pytest.mark.parametrize(
        ("columns", "wanted"),
        [
            ({"open": [1.0, None]}, " row 2: open is nan; it must be a finite number"),
            ({"symbol": ["AAA", None]}, " row 2: symbol is None; it must be a text"),
            (
                {"close": ["1", "2"]},
                ": close is a column of string; it must have numbers",
            ),
            (
                {"open_time": [START, START + 0.5]},
                " row 2: open_time is 1767225600000.5; it must be whole" + MILLI,
            ),
            (
                {"open_time": [START, START]},
                f" row 2: open_time {START} (2026-01-01T00:00:00Z) is that" + TOO,
            ),
        ],
    )
    def test_a_fault_names_its_row(
        self, tmp_path: Path, columns: dict[str, object], wanted: str
    ) -> None:
        path = self.write(tmp_path, **columns)
        with pytest.raises(BadArgumentError) as caught:
            read_bar_file(path)
        assert str(caught.value) == f"{path}{wanted}"

    def test_a_file_that_is_none(self, tmp_path: Path) -> None:
        path = tmp_path / "bars.parquet"
        path.write_bytes(b"PAR1 and more")
        with pytest.raises(BadArgumentError, match="cannot be read as Parquet"):
            read_bar_file(str(path))
