"""Headers for programs in C that read a feed."""

from pathlib import Path


def get_include() -> str:
    """Return the directory of `shmfeed_layout.h`, the layout of a segment for C.

    For a compiler's `-I`. The header needs no library.

    Thread safety: any thread may call it.
    """
    return str(Path(__file__).parent / "include")
