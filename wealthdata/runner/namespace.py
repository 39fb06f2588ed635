"""The names that a strategy's module has before it runs: wealthdata's and JoinQuant's.

A strategy that was written for JoinQuant finds `g`, `log`, `run_daily` and its kind,
and the calls of wealthdata without an import. Calls that set up JoinQuant's simulated
account change nothing here: no orders are made. They are accepted, and each is reported
once, so that a port runs unchanged and its author knows.
"""

import sys
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import wealthdata
from shmfeed.errors import BadArgumentError
from shmfeed.text import repr_short
from wealthdata import unavailable
from wealthdata.carried import nearest
from wealthdata.runner.schedule import Schedule
from wealthdata.runner.strategy_log import StrategyLog

Tell = Callable[[str], None]

_NO_ORDERS = "it changes nothing here, as no orders are made and no results computed"
_WITHOUT_EFFECT = {
    "set_benchmark": _NO_ORDERS,
    "set_commission": _NO_ORDERS,
    "set_order_cost": _NO_ORDERS,
    "set_slippage": _NO_ORDERS,
    "set_subportfolios": _NO_ORDERS,
    "set_universe": "it changes nothing here; --symbols names the symbols of the run",
    "enable_profile": "it changes nothing here; python -m cProfile profiles a run",
    "disable_cache": "it changes nothing here, as every read sees the newest bars",
    "record": "nothing is drawn here; decide() keeps a decision with its bars",
    "send_message": "no message is sent here; log.info() prints a line",
}
# The values that those calls are given.
_VALUES = (
    "FixedSlippage",
    "OrderCost",
    "PerTrade",
    "PriceRelatedSlippage",
    "StepRelatedSlippage",
    "SubPortfolioConfig",
)
# JoinQuant's options, and what is said of a value other than the one that holds here.
_OPTIONS: dict[str, tuple[object, str]] = {
    "use_real_price": (True, "prices are the venue's own, never adjusted"),
    "avoid_future_data": (True, "no read returns a bar that closes after current_dt"),
    "order_volume_ratio": (None, _NO_ORDERS),
    "match_with_order_book": (None, _NO_ORDERS),
    "match_by_signal": (None, _NO_ORDERS),
    "t0_mode": (None, _NO_ORDERS),
    "futures_margin_rate": (None, _NO_ORDERS),
}


class GlobalVariables(SimpleNamespace):
    """JoinQuant's `g`: a strategy's own variables."""


class StrategyValue:
    """A value of a call that changes nothing here, such as OrderCost(..)."""

    def __init__(self, *values: object, **named: object) -> None:
        self.values = values
        self.__dict__.update(named)


def names_of(log: StrategyLog, schedule: Schedule, tell: Tell) -> dict[str, object]:
    """Return the names for the module of one strategy.

    `tell` prints a line for the user, with the strategy's name.
    """
    once = _Once(tell)
    own: dict[str, object] = {
        "g": GlobalVariables(),
        "log": log,
        "run_daily": schedule.run_daily,
        "run_weekly": schedule.run_weekly,
        "run_monthly": schedule.run_monthly,
        "unschedule_all": schedule.unschedule_all,
        "set_option": _set_option(once),
    }
    inert = {name: _inert(name, why, once) for name, why in _WITHOUT_EFFECT.items()}
    return public_names() | dict.fromkeys(_VALUES, StrategyValue) | inert | own


def public_names() -> dict[str, object]:
    """Return the calls of wealthdata, and JoinQuant's that a feed cannot answer."""
    calls = {
        name: call
        for name, call in vars(unavailable).items()
        if callable(call) and call.__module__ == unavailable.__name__
    }
    del calls["unavailable"]
    return calls | {name: getattr(wealthdata, name) for name in wealthdata.__all__}


def provide_jqdata(strategies: Iterable[str]) -> None:
    """Make `from jqdata import *` bring the calls of wealthdata.

    A module of that name that can be found, such as a file beside a strategy, is left
    alone.
    """
    if "jqdata" in sys.modules or find_spec("jqdata") is not None:
        return
    if any(list(Path(path).parent.glob("jqdata*")) for path in strategies):
        return
    module = ModuleType("jqdata", "The calls of wealthdata, under JoinQuant's name.")
    names = public_names() | dict.fromkeys(_VALUES, StrategyValue)
    vars(module).update(names)
    vars(module)["__all__"] = sorted(names)
    sys.modules["jqdata"] = module


class _Once:
    """Lines that are printed once each."""

    def __init__(self, tell: Tell) -> None:
        self._inform = tell
        self._told: set[str] = set()

    def __call__(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._inform(text)


def _inert(name: str, why: str, once: Tell) -> Callable[..., None]:
    def call(*_values: object, **_named: object) -> None:
        once(f"{name}(): {why}")

    call.__name__ = call.__qualname__ = name
    call.__doc__ = f"Accept JoinQuant's call: {why}."
    return call


def _set_option(once: Tell) -> Callable[[str, object], None]:
    def set_option(name: str, value: object) -> None:
        """Accept an option of JoinQuant's; raise BadArgumentError for any other."""
        if name not in _OPTIONS:
            known = " ".join(_OPTIONS)
            near = nearest(name, _OPTIONS) if isinstance(name, str) else ""
            raise BadArgumentError(
                f"option {repr_short(name)} is not accepted; one of: {known}{near}"
            )
        holds, why = _OPTIONS[name]
        if holds is None or value != holds:
            once(f"set_option({name!r}, {repr_short(value)}): {why}")

    return set_option
