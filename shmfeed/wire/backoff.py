"""The random delay before the next attempt, after failures in a row."""

import random

_MAX_DOUBLINGS = 60  # of a float: far beyond any useful limit


def full_jitter(rng: random.Random, base: float, most: float, doublings: int) -> float:
    """Return a random delay below a limit that doubles, from `base` to `most` seconds.

    The delay is spread over the whole limit ("full jitter"), so that clients which
    failed together do not retry together.
    """
    limit = base * 2.0 ** min(doublings, _MAX_DOUBLINGS)
    return rng.uniform(0.0, min(most, limit))
