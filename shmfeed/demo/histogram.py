"""How long reads took, in a few hundred counters."""

from collections.abc import Mapping

_BITS = 4  # 16 steps an octave: a step is at most 1/16 of its value
_STEPS = 1 << _BITS
_SIZE = _STEPS * 40  # to 2**43 ns, over two hours


class Histogram:
    """Counts of whole numbers of at least 0, in steps of about 6 %."""

    def __init__(self) -> None:
        self._counts = [0] * _SIZE

    def add(self, value: int) -> None:
        shift = max(0, value.bit_length() - _BITS - 1)
        step = (shift << _BITS) + (value >> shift)
        self._counts[step if step < _SIZE else _SIZE - 1] += 1

    def quantile(self, share: float) -> float | None:
        """The value that `share` of all do not exceed; None if there is none."""
        left = share * sum(self._counts)
        for step, count in enumerate(self._counts):
            left -= count
            if count and left <= 0:
                return _middle(step)
        return None

    def merge(self, sparse: Mapping[str, int]) -> None:
        """Add what another one's `sparse` says."""
        for step, count in sparse.items():
            self._counts[int(step)] += count

    def sparse(self) -> dict[str, int]:
        """The counts that are not 0, for JSON."""
        return {str(step): n for step, n in enumerate(self._counts) if n}


def _middle(step: int) -> float:
    shift = max(0, (step >> _BITS) - 1)
    low = step - (shift << _BITS)
    return low if not shift else (low + 0.5) * (1 << shift)
