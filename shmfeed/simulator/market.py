"""The venue's market: bars as pure functions of seed, symbol and time.

A symbol's price at a moment is a base, plus waves of six periods, plus noise, computed
in whole cents with 64-bit integers, so every process on every machine gets the same
price. A bar samples the price at its open and at STEPS equally spaced moments after
it. Its state after `step` samples is the forming bar of that moment, and bar n+1 opens
at the price where bar n closed. A reader that knows the seed can therefore check every
value of every row, and detects a torn row at once.

`bar` computes one bar in plain Python; `expected` and `progress` compute many with
numpy, equal to the last bit.
"""

import hashlib
import math
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from shmfeed.bar import Bar, StreamKey
from shmfeed.simulator import grid

Int64s = NDArray[np.int64]
UInt64s = NDArray[np.uint64]
Floats = NDArray[np.float64]

STEPS = 8  # updates of a bar, including the one that closes it
CENTS = 100.0
VOLUME_UNITS = 10_000.0  # volumes have four decimals

_ROLLED = 100_000  # bars that are computed at once for a roll-up
_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MIX1 = 0xBF58476D1CE4E5B9
_MIX2 = 0x94D049BB133111EB

# Periods in ms and amplitudes in millionths of the base.
_WAVES = (
    (53_000, 400),
    (791_000, 1_200),
    (19_080_000, 4_000),
    (267_840_000, 15_000),
    (3_196_800_000, 60_000),
    (59_918_400_000, 200_000),
)
_NOISE = 1_000  # millionths of the base
_TURNS = tuple((1 << 64) // period for period, _ in _WAVES)  # of 2**64 a ms
_TABLE_BITS = 12
_TABLE_SHIFT = 64 - _TABLE_BITS
_SINE = tuple(
    round(65_536 * math.sin(2 * math.pi * i / (1 << _TABLE_BITS)))
    for i in range(1 << _TABLE_BITS)
)
_SINES = np.array(_SINE, np.int64)
_VOLUME_SHIFT = (
    44  # a hash gives the volume by its upper 20 bits, noise by its lower 16
)


# One state of one bar: open_time, close_time, open, high, low, close, volume, money,
# step (0 to STEPS), and the event time, ms UTC.
# A plain tuple: at full speed the venue spends most of its time on making these.
BarState = tuple[int, int, float, float, float, float, float, float, int, int]


class ClosedBars(Protocol):
    """Equally long columns of closed bars, such as a Slice: what `verify` reads."""

    @property
    def open_time(self) -> Int64s: ...
    @property
    def close_time(self) -> Int64s: ...
    @property
    def values(self) -> Floats: ...


class _Parameters(NamedTuple):
    key: int
    base: int  # cents
    noise: int  # cents
    phases: tuple[int, ...]  # of 2**64
    amplitudes: tuple[int, ...]  # cents


def bar(
    seed: int, symbol: str, timeframe: str, open_time: int, step: int = STEPS
) -> Bar:
    """Return the bar that opens at `open_time`, after `step` of its STEPS updates.

    At step 0 it has its open alone and no volume; at STEPS it is closed. Prices and
    money have two decimals, the volume four.

    Args:
        seed: The market's seed.
        symbol: Any symbol; its prices follow from it and the seed.
        timeframe: The bar's timeframe.
        open_time: ms UTC, on the timeframe's grid.
        step: 0 to STEPS.
    """
    parameters = _parameters(seed, symbol)
    end = grid.end(open_time, timeframe)
    length, scale = end - open_time, _scale(timeframe)
    first, _ = _sample(parameters, open_time)
    high = low = last = first
    volume = money = 0
    for number in range(1, step + 1):
        last, amount = _sample(parameters, open_time + length * number // STEPS)
        high, low = max(high, last), min(low, last)
        volume += amount * scale
        money += amount * scale * last
    prices = (first / CENTS, high / CENTS, low / CENTS, last / CENTS)
    turnover = money // int(VOLUME_UNITS) / CENTS
    return Bar(open_time, end, *prices, volume / VOLUME_UNITS, turnover)


def bar_state(
    seed: int, key: StreamKey, open_time: int, step: int, event_time: int
) -> BarState:
    """Return the state of a bar after `step` updates, with this event time."""
    made = bar(seed, *key, open_time, step)
    prices = made.open, made.high, made.low, made.close
    times = made.open_time, made.close_time
    return (*times, *prices, made.volume, made.money, step, event_time)


def expected(seed: int, symbol: str, timeframe: str, open_times: Int64s) -> Floats:
    """Compute the closed bars of these open times.

    Args:
        seed: The market's seed.
        symbol: The stream's symbol.
        timeframe: The stream's timeframe.
        open_times: int64 (n,), ms UTC; any value, on the timeframe's grid or not.

    Returns:
        float64 (5, n): open, high, low, close, volume.
    """
    prices, volumes = _samples(seed, symbol, timeframe, open_times)
    out = np.empty((5, len(open_times)))
    out[0] = prices[0]
    out[1] = prices.max(axis=0)
    out[2] = prices.min(axis=0)
    out[3] = prices[-1]
    out[:4] /= CENTS
    out[4] = volumes.sum(axis=0) / VOLUME_UNITS
    return out


def progress(seed: int, symbol: str, timeframe: str, open_times: Int64s) -> Floats:
    """Compute every state of these bars from step 1 on.

    Returns:
        float64 (6, STEPS, n): open, high, low, close, volume, money.
    """
    prices, volumes = _samples(seed, symbol, timeframe, open_times)
    out = np.empty((6, STEPS, len(open_times)))
    out[0] = prices[0]
    out[1] = np.maximum.accumulate(prices, axis=0)[1:]
    out[2] = np.minimum.accumulate(prices, axis=0)[1:]
    out[3] = prices[1:]
    out[:4] /= CENTS
    out[4] = volumes.cumsum(axis=0) / VOLUME_UNITS
    turnover = (volumes * prices[1:]).cumsum(axis=0)
    out[5] = turnover // int(VOLUME_UNITS) / CENTS
    return out


def rolled_up(
    seed: int, symbol: str, timeframe: str, base: str, open_times: Int64s
) -> Floats:
    """Compute closed bars of these open times out of the bars of a shorter timeframe.

    Args:
        seed: The market's seed.
        symbol: The stream's symbol.
        timeframe: The stream's timeframe.
        base: The shorter one, which divides it.
        open_times: int64 (n,), ms UTC.

    Returns:
        float64 (6, n): open, high, low, close, volume, money.
    """
    out = np.empty((6, len(open_times)))
    counts = (close_times(open_times, timeframe) - open_times) // grid.length(base)
    for part in np.array_split(np.arange(len(counts)), 1 + counts.sum() // _ROLLED):
        if not len(part):
            continue
        starts = np.cumsum(counts[part]) - counts[part]
        numbers = np.arange(counts[part].sum()) - np.repeat(starts, counts[part])
        times = np.repeat(open_times[part], counts[part]) + numbers * grid.length(base)
        made = progress(seed, symbol, base, times)[:, -1]
        out[0, part] = made[0, starts]
        out[1, part] = np.maximum.reduceat(made[1], starts)
        out[2, part] = np.minimum.reduceat(made[2], starts)
        out[3, part] = made[3, starts + counts[part] - 1]
        out[4, part] = np.add.reduceat(made[4], starts).round(4)
        out[5, part] = np.add.reduceat(made[5], starts).round(2)
    return out


def verify(
    seed: int, symbol: str, timeframe: str, rows: ClosedBars | tuple[Int64s, Floats]
) -> int:
    """Count the closed bars that differ from what this market makes.

    Args:
        seed: The market's seed.
        symbol: The stream's symbol.
        timeframe: The stream's timeframe.
        rows: A Slice, or anything with its `open_time`, `close_time` and `values`; or a
            tuple of int64 (n,) open times and float64 (5, n) values.

    Returns:
        The number of rows with a wrong value or a wrong close time.
    """
    if isinstance(rows, tuple):
        open_times, values = rows
        wrong = np.zeros(len(open_times), np.bool_)
    else:
        open_times, values = rows.open_time, rows.values
        wrong = rows.close_time != close_times(open_times, timeframe)
    wanted = expected(seed, symbol, timeframe, open_times)
    wrong |= (values != wanted).any(axis=0)
    return int(np.count_nonzero(wrong))


def close_times(open_times: Int64s, timeframe: str) -> Int64s:
    """Return the close times of the bars of these open times: int64 (n,), ms UTC."""
    if timeframe != "1M":
        return open_times + grid.length(timeframe)
    months = open_times.view("M8[ms]").astype("M8[M]") + np.timedelta64(1, "M")
    ends: Int64s = months.astype("M8[ms]").view(np.int64)
    return ends


@lru_cache(maxsize=4096)
def _parameters(seed: int, symbol: str) -> _Parameters:
    digest = hashlib.blake2b(f"{seed}/{symbol}".encode(), digest_size=64).digest()
    numbers = [int.from_bytes(digest[i : i + 8], "little") for i in range(0, 64, 8)]
    base = 5_000 * 4 ** (numbers[1] % 6)  # 50.00 .. 51,200.00
    base += numbers[1] // 6 % base
    amplitudes = tuple(base * share // 1_000_000 for _, share in _WAVES)
    noise = base * _NOISE // 1_000_000
    return _Parameters(numbers[0], base, noise, tuple(numbers[2:]), amplitudes)


def _scale(timeframe: str) -> int:
    return max(1, grid.length(timeframe) // 60_000)


def _sample(parameters: _Parameters, time: int) -> tuple[int, int]:
    mixed = (time * _GOLDEN + parameters.key) & _MASK
    mixed = (mixed ^ mixed >> 30) * _MIX1 & _MASK
    mixed = (mixed ^ mixed >> 27) * _MIX2 & _MASK
    mixed ^= mixed >> 31
    swing = ((mixed & 0xFFFF) - 0x8000) * parameters.noise
    waves = zip(_TURNS, parameters.phases, parameters.amplitudes, strict=True)
    for turn, phase, amplitude in waves:
        swing += amplitude * _SINE[((time * turn + phase) & _MASK) >> _TABLE_SHIFT]
    return parameters.base + (swing >> 16), (mixed >> _VOLUME_SHIFT) + 1


def _samples(
    seed: int, symbol: str, timeframe: str, open_times: Int64s
) -> tuple[Int64s, Int64s]:
    """Return prices in cents (STEPS + 1, n), and the volume of each step (STEPS, n)."""
    parameters = _parameters(seed, symbol)
    steps = np.arange(STEPS + 1, dtype=np.int64)[:, None]
    lengths = close_times(open_times, timeframe) - open_times
    times = (open_times + lengths * steps // STEPS).view(np.uint64)
    mixed = _mix(times, parameters.key)
    swing = (mixed & np.uint64(0xFFFF)).view(np.int64)
    swing -= 0x8000
    swing *= parameters.noise
    waves = zip(_TURNS, parameters.phases, parameters.amplitudes, strict=True)
    for turn, phase, amplitude in waves:
        angle = times * np.uint64(turn)
        angle += np.uint64(phase)
        angle >>= np.uint64(_TABLE_SHIFT)
        swing += _SINES.take(angle.view(np.int64)) * amplitude
    swing >>= 16
    swing += parameters.base
    mixed >>= np.uint64(_VOLUME_SHIFT)
    amounts = (mixed[1:].view(np.int64) + 1) * _scale(timeframe)
    return swing, amounts


def _mix(times: UInt64s, key: int) -> UInt64s:
    mixed = times * np.uint64(_GOLDEN)
    mixed += np.uint64(key)
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(_MIX1)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(_MIX2)
    mixed ^= mixed >> np.uint64(31)
    return mixed
