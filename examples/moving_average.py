"""Hold a security while its fast moving average is above the slow one.

python -m wealthdata run examples/moving_average.py --symbols BTCUSDT --frequency 1m

The decision of each bar follows from the bars alone, not from when the run began. So a
replay decides what the live run did, wherever it begins: python -m wealthdata compare.
"""

from wealthdata import decide, get_price

FAST, SLOW = 5, 20


def initialize(context):
    context.held = {}


def handle_bar(context, bar):
    frame = get_price(bar.symbol, count=SLOW, frequency=bar.timeframe, fields="close")
    about, closes = frame.attrs["shmfeed"], frame["close"]
    if about.short or about.gaps:
        return  # the feed is younger than the slow average, or lacks bars in it
    hold = bool(closes.iloc[-FAST:].mean() > closes.mean())
    decide({"symbol": bar.symbol, "hold": hold}, frame)
    if hold != context.held.get(bar.symbol, False):
        context.held[bar.symbol] = hold
        if context.broker is not None:  # yours: context.broker = .. in initialize
            context.broker.order(bar.symbol, "buy" if hold else "sell")
