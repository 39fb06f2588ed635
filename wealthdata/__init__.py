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
from wealthdata.choices import use
from wealthdata.context import Context, clear_context, get_context, set_context
from wealthdata.waiting import wait_bar

__all__ = [
    "Bar",
    "BehindWarning",
    "Context",
    "ContextDataAdapter",
    "DataAdapter",
    "GapWarning",
    "LappedWarning",
    "MissingBarsWarning",
    "ShortWarning",
    "StaleFeedWarning",
    "UnconfirmedWarning",
    "bars_to_dataframe",
    "clear_context",
    "clear_data_adapter",
    "get_context",
    "get_data_adapter",
    "get_price",
    "register_data_adapter",
    "set_context",
    "use",
    "wait_bar",
]


def __dir__() -> list[str]:
    return sorted(__all__)
