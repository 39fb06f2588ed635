"""Bars for strategies: live ones from shared memory, older ones from a context."""

from shmfeed.bar import Bar
from shmfeed.errors import (
    BehindWarning,
    GapWarning,
    LappedWarning,
    MissingBarsWarning,
    ShortWarning,
    StaleFeedWarning,
    UnconfirmedWarning,
)
from wealthdata.adapters import (
    ContextDataAdapter,
    DataAdapter,
    clear_data_adapter,
    get_data_adapter,
    register_data_adapter,
)
from wealthdata.api import bars_to_dataframe, get_price
from wealthdata.bar_calls import get_bars
from wealthdata.choices import use
from wealthdata.codes import normalize_code
from wealthdata.context import Context, clear_context, get_context, set_context
from wealthdata.current_data import CurrentData, CurrentSecurity, get_current_data
from wealthdata.decisions import Decision, decide
from wealthdata.events import Closed, Gap, Health, Revised
from wealthdata.following import follow
from wealthdata.history_calls import attribute_history, history
from wealthdata.receipts import Receipt
from wealthdata.securities_table import get_all_securities
from wealthdata.trade_days import get_all_trade_days, get_trade_days
from wealthdata.unavailable import (  # noqa: F401 # `import *` hides no order()
    cancel_order,
    get_all_factors,
    get_billboard_list,
    get_call_auction,
    get_concept,
    get_concept_stocks,
    get_concepts,
    get_current_tick,
    get_dominant_future,
    get_extras,
    get_factor_kanban_values,
    get_factor_values,
    get_fund_info,
    get_fundamentals,
    get_fundamentals_continuously,
    get_future_contracts,
    get_history_fundamentals,
    get_index_stocks,
    get_index_weights,
    get_industries,
    get_industry,
    get_industry_stocks,
    get_last_price,
    get_locked_shares,
    get_margincash_stocks,
    get_marginsec_stocks,
    get_money_flow,
    get_money_flow_pro,
    get_mtss,
    get_open_orders,
    get_security_info,
    get_ticks,
    get_trade_day,
    get_valuation,
    order,
    order_target,
    order_target_value,
    order_value,
)
from wealthdata.waiting import wait_bar

__all__ = [
    "Bar",
    "BehindWarning",
    "Closed",
    "Context",
    "ContextDataAdapter",
    "CurrentData",
    "CurrentSecurity",
    "DataAdapter",
    "Decision",
    "Gap",
    "GapWarning",
    "Health",
    "LappedWarning",
    "MissingBarsWarning",
    "Receipt",
    "Revised",
    "ShortWarning",
    "StaleFeedWarning",
    "UnconfirmedWarning",
    "attribute_history",
    "bars_to_dataframe",
    "clear_context",
    "clear_data_adapter",
    "decide",
    "follow",
    "get_all_factors",
    "get_all_securities",
    "get_all_trade_days",
    "get_bars",
    "get_billboard_list",
    "get_call_auction",
    "get_concept",
    "get_concept_stocks",
    "get_concepts",
    "get_context",
    "get_current_data",
    "get_current_tick",
    "get_data_adapter",
    "get_dominant_future",
    "get_extras",
    "get_factor_kanban_values",
    "get_factor_values",
    "get_fund_info",
    "get_fundamentals",
    "get_fundamentals_continuously",
    "get_future_contracts",
    "get_history_fundamentals",
    "get_index_stocks",
    "get_index_weights",
    "get_industries",
    "get_industry",
    "get_industry_stocks",
    "get_last_price",
    "get_locked_shares",
    "get_margincash_stocks",
    "get_marginsec_stocks",
    "get_money_flow",
    "get_money_flow_pro",
    "get_mtss",
    "get_price",
    "get_security_info",
    "get_ticks",
    "get_trade_day",
    "get_trade_days",
    "get_valuation",
    "history",
    "normalize_code",
    "register_data_adapter",
    "set_context",
    "use",
    "wait_bar",
]


def __dir__() -> list[str]:
    return sorted(__all__)
