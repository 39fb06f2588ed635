"""A strategy as it was written for JoinQuant; its orders have become decisions.

python -m wealthdata run examples/joinquant_port.py --symbols BTCUSDT --frequency 1m

Three lines differ from the original: the security, the unit, and order_target.
"""

from jqdata import *


def initialize(context):
    set_benchmark("BTCUSDT")
    set_option("use_real_price", True)
    g.security = "BTCUSDT"
    run_daily(market_open, time="every_bar")


def market_open(context):
    unit = context.run_params.frequency
    past = attribute_history(g.security, 20, unit, ["close"])
    average = past["close"].mean()
    price = get_current_data()[g.security].last_price
    if price > average * 1.0002:
        decide({"order_target": g.security, "amount": 1})
        log.info("price %.2f above the average %.2f" % (price, average))
    elif price < average:
        decide({"order_target": g.security, "amount": 0})
