"""A strategy of JoinQuant's, whose orders have become decisions."""

from jqdata import *


def initialize(context):
    set_benchmark("BTCUSDT")
    set_option("use_real_price", True)
    g.security = "ETHUSDT"
    run_daily(trade, time="00:00", reference_security="BTCUSDT")


def trade(context):
    past = attribute_history(g.security, 3, "4h", ["close", "volume"])
    yesterday = get_price(
        g.security,
        end_date=context.previous_date,
        frequency="daily",
        fields=["open", "close"],
        count=1,
    )
    price = get_current_data()[g.security].last_price
    if len(yesterday) == 0:
        log.info("no day yet")
        return
    rises = price > past["close"].mean()
    grew = bool(yesterday["close"].iloc[-1] > yesterday["open"].iloc[-1])
    decide({"order_target": g.security, "amount": int(rises), "grew": grew})
