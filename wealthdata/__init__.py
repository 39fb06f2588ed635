"""Bars for strategies: live from shared memory, before that from the context."""

from shmfeed.bar import Bar
from wealthdata.adapter import (
    ContextDataAdapter,
    DataAdapter,
    clear_data_adapter,
    get_data_adapter,
    register_data_adapter,
)
from wealthdata.api import bars_to_dataframe, get_price
from wealthdata.choice import use
from wealthdata.context import Context, clear_context, get_context, set_context
from wealthdata.warn import MissingBarsWarning, StaleFeedWarning

__all__ = [
    "Bar",
    "Context",
    "ContextDataAdapter",
    "DataAdapter",
    "MissingBarsWarning",
    "StaleFeedWarning",
    "bars_to_dataframe",
    "clear_context",
    "clear_data_adapter",
    "get_context",
    "get_data_adapter",
    "get_price",
    "register_data_adapter",
    "set_context",
    "use",
]
