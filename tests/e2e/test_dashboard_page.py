"""The page of `shmfeed dashboard` in a real browser, beside feeds that change."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from support.browser import NEEDS_BROWSER, REBOUND, Browser, Tab, chromium
from support.command_line import MINUTE, START, Process, append, end
from support.followed import beating
from support.page_server import Served, serving

from shmfeed.bar import BACKFILLED, REVISED, UNCONFIRMED
from shmfeed.ringbuf import RingWriter
from shmfeed.simulator import Venue
from shmfeed.writer import FeedWriter

pytest_plugins = ["support.command_process"]
pytestmark = [NEEDS_BROWSER, pytest.mark.usefixtures("no_settings")]

Start = Callable[..., Process]
NewTab = Callable[[], Tab]
IS_LIVE = "document.querySelector('#connection').innerText === 'live'"
ROW = "[...document.querySelectorAll('#rows tr:not([hidden])')].map(r => r.innerText)"
HEALTH = "document.querySelector('#feeds .health')?.innerText"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def new_tab(browser: Browser) -> Iterator[NewTab]:
    """Return a function that opens a tab. No page may have complained at the end."""
    tabs: list[Tab] = []

    def open_tab() -> Tab:
        tabs.append(browser.tab())
        return tabs[-1]

    yield open_tab
    complaints = [text for tab in tabs for text in tab.complaints]
    for tab in tabs:
        tab.close()
    assert complaints == []


@pytest.fixture
def writer(cli_writer: FeedWriter) -> Iterator[FeedWriter]:
    with beating(cli_writer):
        yield cli_writer


@pytest.fixture
def ring(writer: FeedWriter, cli_ring: RingWriter) -> RingWriter:
    append(writer.add_stream("ETHUSDT", "1h"), 0)
    return cli_ring


@pytest.fixture
def page(feed_name: str, ring: RingWriter) -> Iterator[Served]:
    with serving([feed_name]) as served:
        yield served


@pytest.fixture
def tab(page: Served, new_tab: NewTab) -> Tab:
    one = new_tab()
    one.resize(1200, 900)
    one.open(page.url)
    one.wait_for(IS_LIVE)
    return one


def open_chart(tab: Tab, page: Served, feed: str) -> None:
    tab.open(f"{page.url}#{feed}/BTCUSDT/1m")
    tab.wait_for("chart.last !== undefined && chart.stream !== null")


def test_a_bar_closes_and_is_seen(
    tab: Tab, page: Served, feed_name: str, ring: RingWriter
) -> None:
    tab.wait_for(f"{ROW}[0].includes('5.125')")
    open_chart(tab, page, feed_name)
    assert "closed 5.125 at 2024-01-01T00:05:00Z" in tab.text("#chart-price")
    ring.update_forming(START + 5 * MINUTE, 6.0, 8.0, 5.0, 7.5, 1.0)
    tab.wait_for("document.querySelector('#chart-price').innerText.includes('now 7.5')")
    assert tab.js("chart.candles.data().at(-1).close") == 7.5
    append(ring, 5)
    tab.wait_for(f"{ROW}[0].includes('6.125')")
    tab.wait_for("chart.candles.data().length === 6 && chart.last.bars.length === 6")
    assert tab.js("chart.candles.data().at(-1).close") == 6.125
    assert "2024-01-01T00:06:00Z" in tab.text("#rows tr")


def test_a_feeder_is_killed_and_comes_back(
    command: Start, feed_name: str, new_tab: NewTab
) -> None:
    with Venue(resolutions=["1s"], history=20) as venue, serving([feed_name]) as page:
        tab = new_tab()
        tab.open(page.url)
        tab.wait_for(f"{HEALTH} === 'dead'")
        options = ("--feed", feed_name, "--endpoint", venue.url)
        options += ("--symbols", "BTCUSDT", "--resolutions", "1s")
        first = command("run", *options)
        tab.wait_for(f"{HEALTH} === 'live'")
        tab.wait_for(f"{ROW}[0].includes('live')")
        assert tab.text("#alert") == ""
        first.kill()
        tab.wait_for(f"{HEALTH} === 'dead'")
        tab.wait_for(f"{ROW}[0].includes('dead')")
        assert tab.text("#alert") == f"Feed {feed_name} is dead."
        assert tab.js("document.title") == "dead · shmfeed"
        second = command("run", *options)
        tab.wait_for(f"{HEALTH} === 'live'")
        assert f"pid {second.pid}" in tab.text("#feeds")
        tab.wait_for(f"{ROW}[0].includes('live')")
        assert tab.text("#alert") == ""
        assert end(second)[0] == 0


def test_the_dashboard_goes_and_comes_back(
    command: Start, feed_name: str, ring: RingWriter, browser: Browser
) -> None:
    options = ("dashboard", "--feed", feed_name)
    first = command(*options, "--port", 0)
    assert first.stdout is not None
    url = first.stdout.readline().split()[-1]
    tab = browser.tab()  # which complains of its connection
    tab.open(url)
    tab.wait_for(IS_LIVE)
    first.kill()
    tab.wait_for("document.body.classList.contains('offline')")
    assert "no connection to the dashboard for" in tab.text("#connection")
    append(ring, 5)
    second = command(*options, "--port", url.rstrip("/").rpartition(":")[2])
    tab.wait_for(IS_LIVE)
    tab.wait_for(f"{ROW}[0].includes('6.125')")
    tab.close()
    assert end(second)[0] == 0


def test_holes_and_repairs_are_drawn(
    tab: Tab, page: Served, feed_name: str, writer: FeedWriter, ring: RingWriter
) -> None:
    append(ring, 8, flags=UNCONFIRMED)
    open_chart(tab, page, feed_name)
    holes = [(START + number * MINUTE) // 1000 for number in (5, 6, 7)]
    assert tab.js("chart.holes.data().map(one => one.time)") == holes
    assert tab.js("chart.markers.markers().map(one => one.shape)") == ["square"]
    assert tab.text("#chart-holes").startswith(
        "3 bars from 2024-01-01T00:05:00Z to 2024-01-01T00:07:00Z: given up, "
    )
    # A repair fills the hole, and revises bar 2.
    rows = writer.reader(("BTCUSDT", "1m")).snapshot(100).block
    rows = np.insert(rows, [5, 5, 5], rows[:, 4:5], axis=1)
    times = rows.view(np.int64)
    for number in range(5, 8):
        times[0, number] = START + number * MINUTE
        times[1, number] = START + (number + 1) * MINUTE
        times[8, number] = BACKFILLED
    times[8, 2] |= REVISED
    rows[5, 2] = 3.5
    writer.replace_rows("BTCUSDT", "1m", rows)
    tab.wait_for("chart.holes.data().length === 0 && chart.last.bars.length === 9")
    assert tab.js("chart.candles.data()[2].close") == 3.5
    shapes = ["arrowDown", "circle", "circle", "circle", "square"]
    assert tab.js("chart.markers.markers().map(one => one.shape)") == shapes
    assert tab.text("#chart-holes") == ""


def test_a_chart_begins_without_the_bars_of_another(
    page: Served, feed_name: str, browser: Browser
) -> None:
    tab = browser.tab()  # which complains of the answer 404
    open_chart(tab, page, feed_name)
    assert tab.js("chart.candles.data().length") == 5
    tab.open(f"{page.url}#{feed_name}/BTCUSDT/5m")
    tab.wait_for("document.querySelector('#chart-note').innerText !== ''")
    assert tab.text("#chart-title") == "BTCUSDT 5m"
    assert tab.js("chart.candles.data().length") == 0
    tab.close()


def test_the_keyboard(tab: Tab, feed_name: str) -> None:
    tab.wait_for(f"{ROW}.length === 2")
    tab.press("/")
    tab.write("eth")
    tab.wait_for(f"{ROW}.length === 1")
    tab.press("Escape")
    tab.wait_for(f"{ROW}.length === 2")
    tab.press("j")
    assert tab.js("document.activeElement.innerText") == "ETHUSDT"
    tab.press("k")
    assert tab.js("document.activeElement.innerText") == "BTCUSDT"
    tab.press("ArrowDown")
    tab.press("Enter")
    tab.wait_for("document.querySelector('#chart-title').innerText === 'ETHUSDT 1h'")
    assert tab.js("location.hash") == f"#{feed_name}/ETHUSDT/1h"
    tab.press("Escape")
    tab.wait_for("document.querySelector('#chart').hidden")
    assert tab.js("document.activeElement.innerText") == "ETHUSDT"


def test_sorted_and_filtered_by_health(tab: Tab) -> None:
    tab.wait_for(f"{ROW}.length === 2")
    assert tab.text("#healths") == "2 live"
    tab.js("document.querySelector('#healths button').click()")
    assert tab.js("document.querySelector('#filter').value") == "live"
    head = "document.querySelector('th[data-column=symbol]')"
    for order, first in (("ascending", "BTCUSDT"), ("descending", "ETHUSDT")):
        tab.js(f"{head}.firstElementChild.click()")
        assert tab.js(f"{head}.getAttribute('aria-sort')") == order
        assert first in tab.js(f"{ROW}[0]")


def test_tabs_share_one_stream_of_events(
    page: Served, tab: Tab, new_tab: NewTab
) -> None:
    """A browser opens six connections a host; the seventh page would wait for ever."""
    others = [new_tab() for _ in range(7)]
    for other in others:
        other.open(page.url)
        other.wait_for(IS_LIVE)
        other.wait_for(f"{ROW}.length === 2")
    assert page.server._hub.pages == 1


def test_a_browser_without_shared_workers(
    page: Served, tab: Tab, new_tab: NewTab
) -> None:
    """Control: each tab has a stream of its own, and is live, too."""
    for _ in range(2):
        other = new_tab()
        other.run_first("delete window.SharedWorker")
        other.open(page.url)
        other.wait_for(IS_LIVE)
        other.wait_for(f"{ROW}.length === 2")
    assert page.server._hub.pages == 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_in_light_and_dark(
    tab: Tab, page: Served, feed_name: str, scheme: str
) -> None:
    tab.resize(360, 740)
    tab.prefer(scheme)
    open_chart(tab, page, feed_name)
    widths = "[document.documentElement.scrollWidth, innerWidth]"
    scrolled, width = tab.js(widths)
    assert scrolled <= width
    assert tab.js("document.querySelector('table').scrollWidth") <= width
    ground = tab.js("getComputedStyle(document.body).backgroundColor")
    expected = {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 24, 28)"}
    assert ground == expected[scheme]
    colour = tab.js("chart.chart.options().layout.background.color")
    assert colour == {"light": "#ffffff", "dark": "#14181c"}[scheme]


def test_a_rebound_name_shows_nothing(
    page: Served, feed_name: str, browser: Browser
) -> None:
    tab = browser.tab()  # which complains of the answer
    tab.open(f"http://{REBOUND}:{page.port}/")
    assert "403 Forbidden" in tab.js("document.body.innerText")
    with serving([feed_name], names=[REBOUND]) as allowed:  # control
        tab.open(f"http://{REBOUND}:{allowed.port}/")
        tab.wait_for(f"{ROW}.length === 2")
    tab.close()


def test_a_token_is_asked_for_once(
    feed_name: str, ring: RingWriter, new_tab: NewTab
) -> None:
    """The files, the shared events and the chart's bars use the page's password."""
    token = "correct-horse-battery"
    with serving([feed_name], token=token) as served:
        tab = new_tab()
        tab.open(served.url.replace("//", f"//me:{token}@"))
        tab.wait_for(IS_LIVE)
        tab.press("j")
        tab.press("Enter")
        tab.wait_for("chart.last !== undefined")


def test_without_a_script_it_is_the_same_table(tab: Tab, page: Served) -> None:
    tab.disable_scripts()
    tab.open(page.url)
    assert "BTCUSDT" in tab.text("#rows")
    assert "5.125" in tab.text("#rows")
