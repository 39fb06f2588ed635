"""The library that draws candles in a browser, as its makers have published it.

The page of `shmfeed dashboard` and the files of `shmfeed plot` use the same copy. Its
licence asks a page that draws with it to name its makers and to link to them, as
`ATTRIBUTION` and `LINK` do.
"""

from pathlib import Path

VERSION = "5.2.1"
# Of the file in the npm package lightweight-charts of this version.
SHA256 = "e21cc5caa0226ef30bd8549c50b9ef926615f2a4ee6b4e486353477a55f598cf"
ATTRIBUTION = "TradingView Lightweight Charts™ Copyright (c) 2026 TradingView, Inc."
LINK = "https://www.tradingview.com/"

_FOLDER = Path(__file__).parent


def read_script() -> str:
    """Return the library's source, which defines `LightweightCharts` in a page."""
    return (_FOLDER / "lightweight-charts.js").read_text(encoding="utf-8")


def read_notice() -> str:
    """Return the notice that goes with each copy of the library."""
    return (_FOLDER / "NOTICE").read_text(encoding="utf-8")
