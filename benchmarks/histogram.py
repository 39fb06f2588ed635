"""Many times in little room: counts in buckets that are 4 % wide."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Self

PER_OCTAVE = 16


class Histogram:
    """Of positive numbers; told as JSON, and added up over rounds."""

    def __init__(self, counts: Mapping[int, int] | None = None) -> None:
        self._counts = Counter(counts)

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        return cls(
            Counter(round(math.log2(max(value, 1)) * PER_OCTAVE) for value in values)
        )

    @classmethod
    def heard(cls, *told: Mapping[str, int]) -> Self:
        """Of one or more that were told."""
        counts: Counter[int] = Counter()
        for one in told:
            counts.update({int(bucket): count for bucket, count in one.items()})
        return cls(counts)

    def told(self) -> dict[str, int]:
        return {str(bucket): count for bucket, count in sorted(self._counts.items())}

    def steps(self) -> list[tuple[float, float]]:
        """(value, share of all that are not above it), rising."""
        total, below, steps = self._counts.total(), 0, []
        for bucket, count in sorted(self._counts.items()):
            below += count
            steps.append((2 ** (bucket / PER_OCTAVE), below / total))
        return steps

    def quantile(self, share: float) -> float:
        """Within 4 %."""
        return next(value for value, below in self.steps() if below >= share)
