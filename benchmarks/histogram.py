"""A histogram of times, in buckets about 4 % wide."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Self

BUCKETS_PER_OCTAVE = 16


class Histogram:
    """Counts of positive numbers."""

    def __init__(self, counts: Mapping[int, int] | None = None) -> None:
        self._counts = Counter(counts)

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        return cls(
            Counter(
                round(math.log2(max(value, 1)) * BUCKETS_PER_OCTAVE) for value in values
            )
        )

    @classmethod
    def from_json(cls, *parts: Mapping[str, int]) -> Self:
        """Return the sum of one or more histograms."""
        counts: Counter[int] = Counter()
        for part in parts:
            counts.update({int(bucket): count for bucket, count in part.items()})
        return cls(counts)

    def to_json(self) -> dict[str, int]:
        return {str(bucket): count for bucket, count in sorted(self._counts.items())}

    def steps(self) -> list[tuple[float, float]]:
        """Return (value, share of all values up to it), ascending."""
        total, below, steps = self._counts.total(), 0, []
        for bucket, count in sorted(self._counts.items()):
            below += count
            steps.append((2 ** (bucket / BUCKETS_PER_OCTAVE), below / total))
        return steps

    def quantile(self, share: float) -> float:
        """Return the value that `share` of all do not exceed, within 4 %."""
        return next(value for value, below in self.steps() if below >= share)
