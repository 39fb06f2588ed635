"""The part that all fuzz targets share: a function under atheris, and its seeds.

A target is a module with `one(data)`, which raises for what must not be, and `SEEDS`.
As a program it fuzzes; imported it is only these two, which the tests run.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent / "tests")]  # their messages


def no_atheris() -> str | None:
    """Return the reason that prevents fuzzing here, None without one."""
    try:
        import atheris  # noqa: F401
    except ImportError as error:
        version = ".".join(map(str, sys.version_info[:2]))
        return (
            f"no fuzzing with this Python {version}: {error}; pip install"
            " atheris, or choose a Python that atheris has a wheel for:"
            " make fuzz PYTHON=python3.11 VENV=.venv-fuzz"
        )
    return None


@contextmanager
def watched(name: str) -> Iterator[None]:
    """Instrument the imports, if module `name` runs as the program."""
    if name != "__main__" or no_atheris():
        yield
        return
    import atheris

    with atheris.instrument_imports(include=["shmfeed"]):
        yield


def fuzz(one: Callable[[bytes], None], seeds: Sequence[bytes]) -> None:
    """Run `one` on seeds and what comes of them, by libFuzzer's options in argv."""
    reason = no_atheris()
    if reason:
        sys.exit(reason)
    import atheris

    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds):
            Path(corpus, str(number)).write_bytes(seed)
        atheris.Setup([*sys.argv, corpus], one)
        atheris.Fuzz()
