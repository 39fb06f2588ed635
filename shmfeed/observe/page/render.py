"""The document of the page: all feeds and streams as text, before any script runs."""

from html import escape

from shmfeed._version import __version__
from shmfeed.observe import charts
from shmfeed.observe.page.model import PageModel, Row
from shmfeed.text import NO_VALUE, format_duration, format_ms, plain

# The heads of the table, by which the script sorts.
COLUMNS = ("Symbol", "Timeframe", "Health", "Last close", "Close time", "Age", "Gaps")
_RIGHT = ("Last close", "Age", "Gaps")

_HEAD = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>shmfeed</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{page_css}">
<noscript><meta http-equiv="refresh" content="5"></noscript>
<script src="{charts_js}" defer></script>
<script src="{format_js}" defer></script>
<script src="{chart_js}" defer></script>
<script src="{events_js}" defer></script>
<script src="{page_js}" defer></script>
</head>
"""
_BODY = """\
<body data-worker="{worker_js}" data-now="{now}">
<a class="skip" href="#streams">Skip to the streams</a>
<header>
<h1>shmfeed</h1>
<p id="connection" role="status" aria-live="polite">not live yet</p>
</header>
<main>
<section id="feeds" aria-label="Feeds">
{feeds}
</section>
<div id="alert" role="alert"></div>
<section id="chart" aria-label="Chart" hidden>
<div class="bar">
<h2 id="chart-title"></h2>
<button type="button" id="chart-close">Close</button>
</div>
<p id="chart-price" aria-live="off"></p>
<div id="chart-area" role="img" aria-labelledby="chart-title"></div>
<p class="legend">
<span class="key hole">missing</span>
<span class="key absent">no bar at the venue</span>
<span class="key filled">from history</span>
<span class="key revised">revised</span>
<span class="key unconfirmed">unconfirmed</span>
</p>
<p id="chart-note" role="status" aria-live="polite"></p>
<ul id="chart-holes" aria-label="Missing bars"></ul>
</section>
<section id="streams" aria-label="Streams" tabindex="-1">
<div class="bar" role="search">
<label>Filter <input id="filter" type="search" autocomplete="off" spellcheck="false"
 placeholder="symbol, feed or health"></label>
<p id="healths" role="group" aria-label="Streams by health"></p>
</div>
<div class="scroll">
<table>
<caption class="hidden">Streams by feed</caption>
<thead><tr>{heads}</tr></thead>
<tbody id="rows">
{rows}
</tbody>
</table>
</div>
<p id="none"{none}>no stream</p>
</section>
</main>
<footer>
<p>Keys: <kbd>/</kbd> filter, <kbd>&uarr;</kbd> <kbd>&darr;</kbd> or <kbd>k</kbd>
<kbd>j</kbd> stream, <kbd>Enter</kbd> chart, <kbd>Esc</kbd> back. Times are UTC.</p>
<p>shmfeed {version}. Charts: <a href="{link}" rel="noreferrer">TradingView</a>,
<a href="{notice}">{attribution}</a></p>
</footer>
</body>
</html>
"""


def render_page(model: PageModel, urls: dict[str, str]) -> str:
    """Return the HTML document of a model, and of static files at these addresses."""
    rows = [
        _row(feed, row, model.now) for feed in model.feeds for row in model.rows(feed)
    ]
    heads = "".join(_column_head(name) for name in ("Feed", *COLUMNS))
    feeds = "\n".join(_feed(head, model) for head in model.feeds.values())
    body = _BODY.format(
        **urls,
        now=model.now,
        feeds=feeds or "<p>no feed</p>",
        heads=heads,
        rows="\n".join(rows),
        none=" hidden" if rows else "",
        version=escape(__version__),
        link=escape(charts.LINK),
        attribution=escape(charts.ATTRIBUTION),
    )
    return _HEAD.format(**urls) + body


def _column_head(name: str) -> str:
    kind = ' class="number"' if name in _RIGHT else ""
    return (
        f'<th scope="col" data-column="{name.lower()}"{kind}>'
        f'<button type="button">{name}</button></th>'
    )


def _feed(head: dict[str, object], model: PageModel) -> str:
    name, health = escape(str(head["feed"])), escape(str(head["health"]))
    streams = len(model.rows(str(head["feed"])))
    relay, error = head["relay"], head["last_error"]
    said = f"<p>relay: {escape(str(relay))}</p>" if relay else ""
    said += f'<p class="error">last error: {escape(str(error))}</p>' if error else ""
    return (
        f'<article data-feed="{name}" class="feed {health}"><h2>{name}</h2>'
        f'<p><strong class="health {health}">{health}</strong>'
        f" {escape(str(head['state']))}, {streams} streams</p>{said}</article>"
    )


def _row(feed: str, row: Row, now: int) -> str:
    age = None if row.updated is None else max(0, now - row.updated) / 1000
    close = NO_VALUE if row.close is None else plain(row.close)
    closed = NO_VALUE if row.close_time is None else format_ms(row.close_time)
    health = escape(row.health)
    why = f' <span class="why">{escape(row.why)}</span>' if row.why else ""
    return (
        f'<tr><td>{escape(feed)}</td><th scope="row"><button type="button">'
        f"{escape(row.symbol)}</button></th><td>{escape(row.timeframe)}</td>"
        f'<td><span class="health {health}">{health}</span>{why}</td>'
        f'<td class="number">{close}</td><td>{closed}</td>'
        f'<td class="number">{format_duration(age)}</td>'
        f'<td class="number">{row.gaps}</td></tr>'
    )
