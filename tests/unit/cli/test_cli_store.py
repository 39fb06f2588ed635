"""`shmfeed export` and `shmfeed asof`: which store, which bars, which form."""

import csv
import json
from pathlib import Path

import pytest
from support.storing import IDENTITY, KEY, MINUTE, START, bar_at, block_of, version_of

from shmfeed.cli import store_options
from shmfeed.cli.main import main
from shmfeed.cli.times import parse_moment
from shmfeed.store.file import StoreFile

pytestmark = pytest.mark.usefixtures("no_settings")
pytest_plugins = ["support.command_process"]

DAILY = ("BTCUSDT", "1d")


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "bars.sqlite"
    with StoreFile(str(path), IDENTITY, replace=False) as file:
        file.write([version_of(number) for number in range(8)])
        file.write([version_of(2, 1.75, flags=65, cause="revised", late=9 * MINUTE)])
        file.write([version_of(number, key=DAILY) for number in range(5)])
    return str(path)


def run(capsys, *arguments):
    code = main(arguments)
    output, errors = capsys.readouterr()
    return code, output.splitlines(), errors


def exported(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


class TestExport:
    def test_from_a_store(self, store, tmp_path, capsys):
        path = tmp_path / "out.csv"
        line = "export", "BTCUSDT", "1m", "-o", str(path), "--store", store
        code, (said,), errors = run(capsys, *line)
        assert (code, errors) == (0, "")
        assert said == f"wrote 8 bars of BTCUSDT 1m to {path}, from the store {store}"
        rows = exported(path)
        assert [float(row["close"]) for row in rows[:4]] == [1.5, 1.5, 1.75, 1.5]
        assert rows[2]["flags"] == "65"

    @pytest.mark.parametrize("source", ["environment", "config"])
    def test_the_store_of_the_settings(
        self, store, tmp_path, capsys, monkeypatch, source
    ):
        path, more = tmp_path / "out.csv", []
        if source == "environment":
            monkeypatch.setenv("SHMFEED_STORE", store)
        else:
            config = tmp_path / "feed.json"
            config.write_text(json.dumps({"store": store}))
            more = ["--config", str(config)]
        line = "export", "BTCUSDT", "1m", "-o", str(path), "--json", *more
        code, (said,), _ = run(capsys, *line)
        assert code == 0
        assert json.loads(said) == {
            "file": str(path),
            "bars": 8,
            "symbol": "BTCUSDT",
            "timeframe": "1m",
            "source": store,
            "lacking": 0,
        }

    def test_settings_of_a_feeder_in_another_directory(
        self, store, cli_writer, feed_name, tmp_path, capsys, monkeypatch
    ):
        """The feeder's status has the whole path of its store."""
        cli_writer.note({"store": store})
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        monkeypatch.setenv("SHMFEED_STORE", Path(store).name)
        line = "export", "BTCUSDT", "1m", "-o", "out.csv", "--feed", feed_name
        code, (said,), _ = run(capsys, *line)
        assert (code, said.endswith(f"from the store {store}")) == (0, True)

    def test_from_the_ring(self, cli_ring, feed_name, tmp_path, capsys, monkeypatch):
        monkeypatch.setenv("SHMFEED_STORE", str(tmp_path / "later.sqlite"))
        path = tmp_path / "out.csv"
        line = "export", "BTCUSDT", "1m", "-o", str(path), "--feed", feed_name
        code, (said,), _ = run(capsys, *line)
        assert code == 0
        assert said.endswith(f"from the ring of feed {feed_name}")
        assert len(exported(path)) == 5

    @pytest.mark.parametrize(
        ("timeframe", "start", "end", "first", "count"),
        [
            ("1m", None, "2026-01-01 00:03", 0, 3),
            ("1m", "2026-01-01 00:03", "2026-01-01T00:05:00Z", 2, 3),
            ("1m", "2026-01-02", None, 0, 0),
            ("1d", "2026-01-02", "2026-01-03", 1, 2),
            ("1d", "2026-01-02 00:00", "2026-01-03 00:00", 0, 2),
            ("daily", None, "20260101", 0, 1),
        ],
    )
    def test_a_range_of_close_times(
        self, store, tmp_path, capsys, timeframe, start, end, first, count
    ):
        path = tmp_path / "out.csv"
        line = ["export", "BTCUSDT", timeframe, "-o", str(path), "--store", store]
        line += ["--start", start] if start else []
        line += ["--end", end] if end else []
        code, _, errors = run(capsys, *line)
        assert (code, errors) == (0, "")
        rows = exported(path)
        assert len(rows) == count
        length = MINUTE if timeframe == "1m" else 86_400_000
        if count:
            assert int(rows[0]["open_time"]) == START + first * length

    def test_what_is_refused(self, store, tmp_path, capsys):
        path = str(tmp_path / "out.csv")
        base = ["export", "BTCUSDT", "1m", "--store", store, "-o", path]
        for change, said in (
            ({3: "--store", 4: path}, "is not there"),
            ({1: "BTCUSD"}, "did you mean BTCUSDT?"),
            ({2: "7m"}, "timeframe '7m' is not accepted"),
            ({4: "."}, "it is a directory"),
            ({6: str(tmp_path)}, "must end in .csv or .parquet"),
            ({6: str(tmp_path / "none" / "out.csv")}, "there is no directory"),
            ({6: "out.xls"}, "must end in .csv or .parquet"),
            ({1: "BTC USDT"}, "symbol 'BTC USDT' is not accepted"),
        ):
            line = [change.get(at, word) for at, word in enumerate(base)]
            code, _, errors = run(capsys, *line)
            assert (code, said in errors) == (2, True), errors
        code, _, errors = run(capsys, *base, "--feed", "a b")
        assert (code, "feed name 'a b' is not accepted" in errors) == (2, True)
        span = "--start", "2026-01-01", "--end", "2025-01-01"
        code, _, errors = run(capsys, *base, *span)
        assert (code, "--start is after --end" in errors) == (2, True)
        assert not (tmp_path / "out.csv").exists()


class TestLag:
    """A store that is behind the ring of its feed is named, and its rows are given."""

    @pytest.fixture(autouse=True)
    def _soon(self, monkeypatch):
        monkeypatch.setattr(store_options, "_WRITTEN_SECONDS", 0.05)
        monkeypatch.setattr(store_options, "_POLL_SECONDS", 0.01)

    @pytest.fixture
    def ring(self, store, cli_writer):
        """Return the ring of a feed with this store, which has its bars 4 to 7."""
        cli_writer.note({"store": store})
        ring = cli_writer.add_stream(*KEY)
        for number in range(4, 8):
            self.append(ring, number)
        return ring

    def append(self, ring, number):
        bar = bar_at(number)
        ring.append(bar.open_time, *bar[2:9])

    def export(self, capsys, feed_name, tmp_path, *more):
        line = "export", "BTCUSDT", "1m", "-o", str(tmp_path / "out.csv"), "--json"
        code, (said,), errors = run(capsys, *line, "--feed", feed_name, *more)
        assert code == 0
        return json.loads(said), errors

    def test_rows_that_the_store_lacks(self, ring, store, feed_name, tmp_path, capsys):
        assert self.export(capsys, feed_name, tmp_path)[1] == ""
        self.append(ring, 8)
        self.append(ring, 9)
        found, errors = self.export(capsys, feed_name, tmp_path, "--store", store)
        assert (found["bars"], found["lacking"]) == (8, 2)
        said = f"the store lacks 2 bars that the ring of feed {feed_name} has, the"
        assert f"{said} newest closes at 2026-01-01T00:10:00Z" in errors
        until = "--end", "2026-01-01 00:08"
        assert self.export(capsys, feed_name, tmp_path, *until)[1] == ""

    def test_a_version_that_the_store_lacks(
        self, ring, cli_writer, feed_name, tmp_path, capsys
    ):
        rows = ring.reader.snapshot(4).block
        rows[5, 1] = 1.75
        cli_writer.replace_rows(*KEY, rows)
        found, errors = self.export(capsys, feed_name, tmp_path)
        assert found["lacking"] == 1
        assert "the newest closes at 2026-01-01T00:06:00Z" in errors

    def test_a_bar_that_is_written_meanwhile(
        self, ring, store, feed_name, tmp_path, capsys, monkeypatch
    ):
        def write(_):
            with StoreFile(store, IDENTITY, replace=False) as file:
                file.write([version_of(8)])

        self.append(ring, 8)
        monkeypatch.setattr(store_options.time, "sleep", write)
        found, errors = self.export(capsys, feed_name, tmp_path)
        assert (found["bars"], found["lacking"], errors) == (9, 0, "")

    def test_another_store_than_the_feed_s(
        self, ring, store, cli_writer, feed_name, tmp_path, capsys
    ):
        self.append(ring, 8)
        cli_writer.note({"store": str(tmp_path)})
        found, errors = self.export(capsys, feed_name, tmp_path, "--store", store)
        assert (found["lacking"], errors) == (0, "")

    def test_a_time_that_the_store_has_not_reached(self, ring, feed_name, capsys):
        self.append(ring, 8)
        line = "asof", "BTCUSDT", "1m", "--feed", feed_name, "--at"
        _, lines, errors = run(capsys, *line, "2026-01-01 00:09:30")
        assert "the store lacks 1 bar that the ring" in errors
        assert len(lines) == 9
        assert run(capsys, *line, "2026-01-01 00:08:30")[2] == ""


class TestAsOf:
    def test_rows_of_then(self, store, capsys):
        line = "asof", "BTCUSDT", "1m", "--store", store, "-n", "2", "--at"
        code, lines, errors = run(capsys, *line, "2026-01-01 00:04")
        assert (code, errors) == (0, "")
        assert [row.split()[:5:4] for row in lines[1:]] == [
            ["2026-01-01T00:02:00Z", "1.5"],
            ["2026-01-01T00:03:00Z", "1.5"],
        ]
        _, lines, _ = run(capsys, *line, "2026-01-01 00:14", "--json")
        assert len(lines) == 2
        line = "asof", "BTCUSDT", "1m", "--store", store, "--json", "--at"
        _, lines, _ = run(capsys, *line, str(START + 20 * MINUTE))
        third = json.loads(lines[2])
        assert third["close"] == 1.75
        assert third["version"] == 2
        assert third["cause"] == "revised"
        assert third["published"] == "2026-01-01T00:12:00.000000Z"
        assert third["money"] is None

    @pytest.mark.parametrize("ns", [1, 999, 1000, 999_999_999])
    def test_the_time_that_is_shown_finds_the_row(self, store, capsys, ns):
        closed = version_of(9)
        late = closed._replace(published=closed.published // 10**9 * 10**9 + ns)
        with StoreFile(store, IDENTITY, replace=False) as file:
            file.write([late])
        line = "asof", "BTCUSDT", "1m", "--store", store, "-n", "1", "--json", "--at"
        _, lines, _ = run(capsys, *line, "2030-01-01")
        row = json.loads(lines[0])
        shown = row["published"]
        assert json.loads(run(capsys, *line, shown)[1][0]) == row
        before = parse_moment(shown).ns // 1_000_000 - 1
        earlier = json.loads(run(capsys, *line, str(before))[1][0])
        assert earlier["open_time"] < row["open_time"]

    def test_nothing_had_been_published(self, store, capsys):
        line = "asof", "BTCUSDT", "1m", "--store", store, "--at", "2025-12-31"
        code, lines, errors = run(capsys, *line)
        assert (code, lines) == (0, [])
        assert "no bar of BTCUSDT 1m had been published by then" in errors

    def test_times_that_are_not_known(self, store, capsys):
        with StoreFile(store, IDENTITY, replace=False) as file:
            file.catch_up(KEY, block_of([bar_at(8)]), (START + 60 * MINUTE) * 10**6)
        line = "asof", "BTCUSDT", "1m", "--store", store, "-n", "1"
        code, lines, errors = run(capsys, *line, "--at", "2026-01-01 00:09")
        assert code == 0
        assert " ~2026-01-01T01:00:00.000000Z  caught_up " in lines[1]
        assert "the times of 1 bar are not known exactly" in errors

    def test_without_a_store(self, capsys):
        code, _, errors = run(capsys, "asof", "BTCUSDT", "1m", "--at", "2026-01-01")
        assert code == 2
        assert "asof reads a store, and none is set" in errors

    @pytest.mark.parametrize("command", ["asof", "export"])
    def test_neither_a_store_nor_the_feed(self, command, tmp_path, capsys):
        path = tmp_path / "out.csv"
        more = {"asof": ["--at", "2026-01-01"], "export": ["-o", str(path)]}[command]
        line = command, "BTCUSDT", "1m", *more, "--feed", "no-such-feed"
        code, _, errors = run(capsys, *line)
        assert (code, "there is no feed 'no-such-feed'" in errors) == (2, True)
        assert not path.exists()

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({1: "BTCUSD"}, "did you mean BTCUSDT?"),
            ({1: "B C"}, "symbol 'B C' is not accepted"),
            ({2: "7m"}, "timeframe '7m' is not accepted"),
            ({2: "5m"}, "has no bars of BTCUSDT 5m"),
            ({6: "none.sqlite"}, "is not there"),
            ({6: "/dev/null"}, "it is not a file"),
            ({8: "0"}, "-n is 0; it must be an int from 1"),
        ],
    )
    def test_what_is_refused(self, store, capsys, change, said):
        line = ["asof", "BTCUSDT", "1m", "--at", "2026-01-01", "--store", store]
        line += ["-n", "5"]
        line = [change.get(at, word) for at, word in enumerate(line)]
        code, lines, errors = run(capsys, *line)
        assert (code, lines, said in errors) == (2, [], True), errors

    def test_a_damaged_store(self, tmp_path, capsys):
        path = tmp_path / "bars.sqlite"
        path.write_bytes(b"rubbish" * 999)
        line = "asof", "BTCUSDT", "1m", "--at", "2026-01-01", "--store", str(path)
        code, _, errors = run(capsys, *line)
        assert code == 1
        assert "is damaged" in errors


@pytest.mark.parametrize(
    ("text", "ns", "is_day"),
    [
        ("2026-01-01", START * 10**6, True),
        ("20260101", START * 10**6, True),
        ("2026/1/1", START * 10**6, True),
        ("20260101000100", (START + MINUTE) * 10**6, False),
        (str(START), START * 10**6, False),
        ("2026-01-01T00:01Z", (START + MINUTE) * 10**6, False),
        ("2026-01-01 01:01:00+01:00", (START + MINUTE) * 10**6, False),
        ("2026-01-01 00:00:00.000001", START * 10**6 + 1000, False),
    ],
)
def test_times(text, ns, is_day):
    assert parse_moment(text) == (ns, is_day)


@pytest.mark.parametrize(
    "text",
    ["", "x", "1767225600", "20261301", "2026-13-01", "9" * 40, "1800-01-01", "-5"],
)
def test_times_that_are_refused(text, store, capsys):
    with pytest.raises(SystemExit):
        main(["asof", "BTCUSDT", "1m", "--store", store, f"--at={text}"])
    assert "is not a time" in capsys.readouterr().err
