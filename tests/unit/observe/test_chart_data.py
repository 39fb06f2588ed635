"""The decimals of a chart's prices are those that a venue has sent."""

import math

import pytest

from shmfeed.bar import Bar
from shmfeed.observe.chart_data import count_decimals


def bars(*prices: float) -> list[Bar]:
    return [Bar(0, 1, price, price, price, price, 0.1234567) for price in prices]


@pytest.mark.parametrize(
    ("prices", "decimals"),
    [
        ([], 2),
        ([math.nan], 2),
        ([math.inf, 1.5], 1),
        ([100.0], 0),
        ([49192.01], 2),
        ([49192.01, 49192.5], 2),
        ([0.1 + 0.2], 1),
        ([0.00001234], 8),
        ([1e-7], 7),
        ([1e21], 0),
        ([0.0], 0),
    ],
)
def test_decimals(prices: list[float], decimals: int) -> None:
    assert count_decimals(bars(*prices)) == decimals
