"""JoinQuant's calls that a feed cannot answer: each raises, and names what there is."""

from collections.abc import Callable
from typing import NoReturn

from shmfeed.errors import NoDataError

_BARS = "get_price, get_bars, history and attribute_history read bars"
_SYMBOLS = "get_all_securities() lists the symbols, and normalize_code() spells them"
_PRICES = (
    "get_current_data()[symbol].last_price is the newest price, and wait_bar waits for"
    " a closed bar"
)
_DAYS = "get_trade_days() and get_all_trade_days() list the trading days"
_ORDERS = "orders belong to the API of the platform or exchange that trades"
TRADING = (
    "attrs['shmfeed'].health of a read is 'closed' while the venue says that the symbol"
    " does not trade"
)

Unavailable = Callable[..., NoReturn]


def unavailable(name: str, instead: str) -> NoDataError:
    """Return the error of a name of JoinQuant's; `instead` says what there is."""
    return NoDataError(
        f"{name} has no answer here, as a feed carries bars alone; {instead}"
    )


def _call(name: str, instead: str) -> Unavailable:
    def call(*_arguments: object, **_keywords: object) -> NoReturn:
        raise unavailable(f"{name}()", instead)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = f"Raise NoDataError: {instead}."
    return call


get_fundamentals = _call("get_fundamentals", _BARS)
get_fundamentals_continuously = _call("get_fundamentals_continuously", _BARS)
get_history_fundamentals = _call("get_history_fundamentals", _BARS)
get_valuation = _call("get_valuation", _BARS)
get_extras = _call("get_extras", _BARS)
get_money_flow = _call("get_money_flow", _BARS)
get_money_flow_pro = _call("get_money_flow_pro", _BARS)
get_factor_values = _call("get_factor_values", _BARS)
get_factor_kanban_values = _call("get_factor_kanban_values", _BARS)
get_all_factors = _call("get_all_factors", _BARS)
get_billboard_list = _call("get_billboard_list", _BARS)
get_locked_shares = _call("get_locked_shares", _BARS)
get_mtss = _call("get_mtss", _BARS)

get_index_stocks = _call("get_index_stocks", _SYMBOLS)
get_index_weights = _call("get_index_weights", _SYMBOLS)
get_industry = _call("get_industry", _SYMBOLS)
get_industries = _call("get_industries", _SYMBOLS)
get_industry_stocks = _call("get_industry_stocks", _SYMBOLS)
get_concept = _call("get_concept", _SYMBOLS)
get_concepts = _call("get_concepts", _SYMBOLS)
get_concept_stocks = _call("get_concept_stocks", _SYMBOLS)
get_margincash_stocks = _call("get_margincash_stocks", _SYMBOLS)
get_marginsec_stocks = _call("get_marginsec_stocks", _SYMBOLS)
get_future_contracts = _call("get_future_contracts", _SYMBOLS)
get_dominant_future = _call("get_dominant_future", _SYMBOLS)
get_security_info = _call("get_security_info", _SYMBOLS)
get_fund_info = _call("get_fund_info", _SYMBOLS)
get_trade_day = _call("get_trade_day", _DAYS)

get_ticks = _call("get_ticks", _PRICES)
get_last_price = _call("get_last_price", _PRICES)
get_current_tick = _call("get_current_tick", _PRICES)
get_call_auction = _call("get_call_auction", _PRICES)

# Not in __all__: `from wealthdata import *` must not hide a platform's own.
order = _call("order", _ORDERS)
order_value = _call("order_value", _ORDERS)
order_target = _call("order_target", _ORDERS)
order_target_value = _call("order_target_value", _ORDERS)
cancel_order = _call("cancel_order", _ORDERS)
get_open_orders = _call("get_open_orders", _ORDERS)
