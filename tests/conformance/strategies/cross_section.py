"""The stronger of several securities, over the last bars that both have."""

from wealthdata import *


def handle_data(context, data):
    closes = history(4, "4h", "close", ["BTCUSDT", "ETHUSDT"], align=True)
    if len(closes) < 4:
        decide("wait")
        return
    change = closes.iloc[-1] / closes.iloc[0] - 1
    decide([change.idxmax(), f"{closes.index[0]:%d %H:%M}", sorted(data)])
