"""Cross of two moving averages, on one security."""

from wealthdata import *

SYMBOL = "BTCUSDT"


def initialize(context):
    g.holds = False


def handle_bar(context, bar):
    if bar.symbol != SYMBOL:
        return
    frame = get_price(SYMBOL, count=5, frequency="4h", fields="close")
    if len(frame) < 5:
        return
    fast, slow = frame["close"].iloc[-2:].mean(), frame["close"].mean()
    if (fast > slow) != g.holds:
        g.holds = not g.holds
        decide({"buy" if g.holds else "sell": SYMBOL, "at": frame["close"].iloc[-1]})
