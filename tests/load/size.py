"""The size of a load, and the symbols of each strategy."""

from typing import NamedTuple


class Size(NamedTuple):
    """The size of a load.

    Attributes:
        seconds: Its length.
        symbols: Symbols, each with a stream of each timeframe.
        timeframes: The first one's closes are measured.
        strategies: Processes that wait for ten symbols and read them.
        connections: Connections that one client of the control socket holds.
        update_every: Seconds between two updates of a stream's forming bar.
        probe_every: Seconds between two looks of the observers.
    """

    seconds: float = 1800.0
    symbols: int = 500
    timeframes: tuple[str, ...] = ("1m", "5m", "15m", "1h")
    strategies: int = 64
    connections: int = 1000
    update_every: float = 5.0
    probe_every: float = 15.0

    @property
    def names(self) -> list[str]:
        """The symbols, in the order in which the venue sends their bars."""
        return [f"S{number:04}USDT" for number in range(self.symbols)]

    @property
    def streams(self) -> int:
        """The number of streams."""
        return self.symbols * len(self.timeframes)


SYMBOLS_OF_A_STRATEGY = 10


def symbols_of(names: list[str], strategy: int) -> list[str]:
    """Return the symbols of a strategy; the last one that closes is among them."""
    count = min(SYMBOLS_OF_A_STRATEGY, len(names)) - 1
    others = names[:-1]
    chosen = (others[(strategy * count + n) % len(others)] for n in range(count))
    return [*dict.fromkeys(chosen), names[-1]]
