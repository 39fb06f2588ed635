"""A chart as one HTML file that needs no network: candles, volume, holes."""

import html
import json
import math

from shmfeed.bar import Bar
from shmfeed.observe.chart_data import (
    ChartData,
    count_decimals,
    describe_hole,
    missing_opens,
)
from shmfeed.observe.charts import ATTRIBUTION, LINK, read_notice, read_script

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
  :root {{ --back: #ffffff; --text: #1b1f24; --faint: #59636e; }}
  @media (prefers-color-scheme: dark) {{
    :root {{ --back: #14171c; --text: #e6e8eb; --faint: #9aa4af; }}
  }}
  html, body {{ height: 100%; }}
  body {{ margin: 0; padding: 12px; box-sizing: border-box; display: flex;
    flex-direction: column; gap: 8px; background: var(--back); color: var(--text);
    font: 14px/1.4 system-ui, sans-serif; }}
  h1 {{ margin: 0; font-size: 18px; }}
  p, ul {{ margin: 0; color: var(--faint); font-size: 12px; }}
  ul {{ max-height: 20%; overflow: auto; padding-left: 18px; }}
  #chart {{ flex: 1; min-height: 240px; }}
  a {{ color: inherit; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{subtitle}</p>
<div id="chart"><noscript>The chart needs JavaScript.</noscript></div>
{holes}
<p><a href="{link}">{attribution}</a></p>
<!--
{notice}
-->
<script id="data" type="application/json">{data}</script>
<script>{library}</script>
<script>{script}</script>
</body>
</html>
"""
_SCRIPT = """
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const element = document.getElementById("chart");
const chart = LightweightCharts.createChart(element, {
  autoSize: true,
  timeScale: { timeVisible: data.intraday, secondsVisible: data.seconds },
});
// Missing bars are points without a value, in a series of their own.
const holes = chart.addSeries(LightweightCharts.LineSeries, {
  priceLineVisible: false, lastValueVisible: false, crosshairMarkerVisible: false,
});
holes.setData(data.missing.map((time) => ({ time })));
const candles = chart.addSeries(LightweightCharts.CandlestickSeries, {
  priceFormat: {
    type: "price", precision: data.decimals, minMove: 10 ** -data.decimals,
  },
});
candles.setData(data.bars);
const volume = chart.addSeries(LightweightCharts.HistogramSeries, {
  priceFormat: { type: "volume" }, priceScaleId: "volume", priceLineVisible: false,
  lastValueVisible: false,
});
volume.priceScale().applyOptions({ scaleMargins: { top: 0.8, bottom: 0 } });
volume.setData(data.volumes);
const scheme = matchMedia("(prefers-color-scheme: dark)");
function applyScheme() {
  const dark = scheme.matches;
  const line = dark ? "#2a3038" : "#e4e8ec";
  chart.applyOptions({
    layout: {
      background: { color: dark ? "#14171c" : "#ffffff" },
      textColor: dark ? "#e6e8eb" : "#1b1f24",
    },
    grid: { vertLines: { color: line }, horzLines: { color: line } },
  });
  volume.applyOptions({ color: dark ? "#45505c" : "#c3ccd5" });
}
scheme.addEventListener("change", applyScheme);
applyScheme();
chart.timeScale().fitContent();
document.body.dataset.drawn = String(data.bars.length);
"""


def make_chart_page(chart: ChartData) -> str:
    """Return the HTML of a chart, complete in itself."""
    holes = "".join(
        f"<li>{html.escape(describe_hole(hole))}</li>" for hole in chart.holes
    )
    return _PAGE.format(
        title=html.escape(chart.title),
        subtitle=html.escape(chart.subtitle),
        holes=f"<ul>{holes}</ul>" if holes else "<p>no missing bars</p>",
        link=LINK,
        attribution=html.escape(ATTRIBUTION),
        notice=read_notice().replace("--", "- -"),
        data=_to_json(chart),
        library=read_script(),
        script=_SCRIPT,
    )


def _to_json(chart: ChartData) -> str:
    length = chart.bars[0].close_time - chart.bars[0].open_time if chart.bars else 0
    missing = sorted({at // 1000 for one in chart.holes for at in missing_opens(one)})
    data = {
        "bars": [_candle(bar) for bar in chart.bars],
        "volumes": [_volume(bar) for bar in chart.bars],
        "missing": missing,
        "decimals": count_decimals(chart.bars),
        "intraday": length < 86_400_000,
        "seconds": length < 60_000,
    }
    # No text of the data ends the element that holds it.
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _candle(bar: Bar) -> dict[str, float]:
    prices = {"open": bar.open, "high": bar.high, "low": bar.low, "close": bar.close}
    time = {"time": bar.open_time // 1000}
    # An item of a time alone is a hole; the library raises for a null value.
    return time | prices if all(map(math.isfinite, prices.values())) else {**time}


def _volume(bar: Bar) -> dict[str, float]:
    time = {"time": bar.open_time // 1000}
    return time | {"value": bar.volume} if math.isfinite(bar.volume) else {**time}
