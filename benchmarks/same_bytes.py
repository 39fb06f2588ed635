"""The bytes that rivals hold and hand out: the same bars, in the same order."""

import numpy as np
from filled_feed import SYMBOLS, closed_bars

WORDS = 9  # of a bar: two times, six floats, flags
ROWS = tuple(f"{kind} {n}" for n in (20, 1000) for kind in ("values", "rows"))


def window(name: str) -> bytes:
    """`values n`: float64 (5, n), as view(n).values; `rows n`: all nine words of each,
    as snapshot(n) copies; `bar`: those of one."""
    kind, _, n = name.partition(" ")
    rows = closed_bars(SYMBOLS[0])[-int(n or 1) :]
    times = np.array([(*row[:2], 0) for row in rows], np.int64).view(np.float64)
    floats = np.array([row[2:8] for row in rows])
    if kind == "values":
        return np.ascontiguousarray(floats[:, :5].T).tobytes()
    return np.hstack([times[:, :2], floats, times[:, 2:]]).T.tobytes()


def array(
    data: bytes, name: str
) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    """Those bytes as what `window` says, not copied."""
    columns = 5 if name.startswith("values") else WORDS
    return np.frombuffer(data).reshape(columns, -1)
