"""The random delay before the next try, after failures in a row."""

import random

_MAX_DOUBLINGS = 60  # of a float: far beyond any useful limit


def full_jitter(rng: random.Random, base: float, most: float, doublings: int) -> float:
    """Return a random part of a limit that doubles, from `base` to `most` seconds.

    Any part of it ("full jitter"), so that peers which failed together do not come back
    together.
    """
    limit = base * 2.0 ** min(doublings, _MAX_DOUBLINGS)
    return rng.uniform(0.0, min(most, limit))
