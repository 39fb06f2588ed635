"""Random delays before the next attempt, after failures in a row."""

import random

MAX_DOUBLINGS = 60  # of a float: far beyond any useful limit


def equal_jitter(rng: random.Random, base: float, most: float, doublings: int) -> float:
    """Return a random delay between half and all of a limit that doubles.

    At least half of each limit is waited ("equal jitter"), so that the attempts of one
    client stay rare whatever its luck.
    """
    limit = _limit(base, most, doublings)
    return rng.uniform(limit / 2, limit)


def _limit(base: float, most: float, doublings: int) -> float:
    return min(most, base * 2.0 ** min(doublings, MAX_DOUBLINGS))
