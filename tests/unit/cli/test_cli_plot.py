"""`shmfeed plot`: the files that it writes, and those that it does not."""

import json
import os
import re
import sys

import pytest
from support.command_line import MINUTE, START, append

from shmfeed.cli.main import main
from shmfeed.feed import attach
from shmfeed.observe.chart_data import MOST_MISSING, missing_opens, read_chart
from shmfeed.observe.chart_page import make_chart_page
from shmfeed.observe.charts import LINK, read_script

pytest_plugins = ["support.command_process"]
pytestmark = pytest.mark.usefixtures("no_settings")


@pytest.fixture
def plot(feed_name, cli_ring, capsys):
    """Run it on this test's feed, which lacks the bars 5 and 6."""
    append(cli_ring, 7, 8)

    def run(*arguments: object) -> tuple[int, str, str]:
        words = ["plot", "BTCUSDT", "1m", "--feed", feed_name, *map(str, arguments)]
        return main(words), *capsys.readouterr()

    return run


def data_of(page: str) -> dict:
    (text,) = re.findall(r'<script id="data" type="application/json">(.*?)<', page)
    return json.loads(text)


def test_the_page_has_bars_and_holes(plot, tmp_path) -> None:
    path = tmp_path / "chart.html"
    code, output, errors = plot("-o", path)
    assert (code, errors) == (0, "")
    assert output == f"wrote 7 bars of BTCUSDT 1m, with 1 hole, to {path}\n"
    page = path.read_text()
    data = data_of(page)
    seconds = [(START + number * MINUTE) // 1000 for number in range(9)]
    assert [bar["time"] for bar in data["bars"]] == seconds[:5] + seconds[7:]
    assert data["missing"] == seconds[5:7]
    assert data["bars"][-1]["close"] == 9.125
    assert data["decimals"] == 3
    assert "2 bars missing, 2024-01-01T00:05:00Z to 2024-01-01T00:06:00Z" in page
    assert list(tmp_path.iterdir()) == [path]


def test_times_ascend_without_duplicates(plot, tmp_path) -> None:
    """As the library asks for them."""
    plot("-o", tmp_path / "chart.html")
    data = data_of((tmp_path / "chart.html").read_text())
    for times in ([bar["time"] for bar in data["bars"]], data["missing"]):
        assert times == sorted(set(times))
    assert None not in [value for bar in data["bars"] for value in bar.values()]


def test_the_page_needs_no_network(plot, tmp_path) -> None:
    plot("-o", tmp_path / "chart.html")
    page = (tmp_path / "chart.html").read_text()
    assert read_script() in page
    ours = page.replace(read_script(), "")
    assert "default-src 'none'" in ours
    assert re.findall(r'(?:src|href)="([^"]*)"', ours) == [LINK]


def test_no_text_breaks_out_of_the_page(feed_name, cli_ring) -> None:
    with attach(feed_name) as feed:
        chart = read_chart(feed, "BTCUSDT", "1m", 10)
    evil = "</script><script>alert(1)</script>"
    page = make_chart_page(chart._replace(feed=evil, identity=evil, key=(evil, "1m")))
    assert evil not in page
    assert page.count("</script>") == 3


def test_a_long_hole_does_not_fill_the_page(feed_name, cli_ring) -> None:
    append(cli_ring, 100_000)
    with attach(feed_name) as feed:
        (hole,) = read_chart(feed, "BTCUSDT", "1m", 10).holes
    assert hole.missing == 99_995
    opens = missing_opens(hole)
    assert len(opens) == MOST_MISSING
    assert opens[0] == hole.first


def test_a_number_of_bars(plot, tmp_path) -> None:
    path = tmp_path / "chart.html"
    found = json.loads(plot("-o", path, "-n", 2, "--json")[1])
    assert found["bars"] == 2
    assert found["missing"] == 0  # the hole is older
    assert data_of(path.read_text())["missing"] == []


@pytest.mark.parametrize("ending", ["html", "png"])
def test_a_stream_without_bars(
    command, cli_writer, feed_name, tmp_path, ending
) -> None:
    cli_writer.add_stream("ETHUSDT", "1h")
    path = tmp_path / f"chart.{ending}"
    process = command("plot", "ETHUSDT", "1h", "-o", path, "--feed", feed_name)
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 0
    assert path.stat().st_size > 1000


def test_an_image(command, cli_ring, feed_name, tmp_path) -> None:
    """In a process of its own: matplotlib keeps the files of its fonts open."""
    append(cli_ring, 7)
    path = tmp_path / "chart.PNG"
    process = command("plot", "BTCUSDT", "1m", "-o", path, "--feed", feed_name)
    assert process.communicate(timeout=60)[1] == ""
    assert path.read_bytes().startswith(b"\x89PNG\r\n")


def test_an_image_without_matplotlib(plot, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, output, errors = plot("-o", tmp_path / "chart.png")
    assert (code, output) == (1, "")
    assert "a PNG needs matplotlib, which is not installed: pip install" in errors
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "x.svg"], "its name must end in .html or .png"),
        (["-o", "/nowhere/x.html"], "there is no directory '/nowhere'"),
        (["-o", "x.html", "-n", "0"], "-n is 0; it must be an int of at least 1"),
        (["-o", "x.html", "-n", "all"], "-n is 'all'"),
    ],
)
def test_values_that_are_refused(plot, arguments, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, output, errors = plot(*arguments)
    assert (code, output) == (2, "")
    assert message in errors
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_stream_leaves_the_file(plot, tmp_path, feed_name, capsys) -> None:
    path = tmp_path / "chart.html"
    path.write_text("old")
    arguments = ["plot", "BTCUSD", "1m", "-o", str(path), "--feed", feed_name]
    assert main(arguments) == 2
    assert "did you mean BTCUSDT?" in capsys.readouterr().err
    assert path.read_text() == "old"


def test_a_full_disk_is_exit_1(plot, tmp_path, monkeypatch) -> None:
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    path = tmp_path / "chart.html"
    code, _, errors = plot("-o", path)
    assert code == 1
    assert f"output '{path}' cannot be written: No space left" in errors
    assert list(tmp_path.iterdir()) == []
