"""Where a demo's figures go: a live table, plain lines, or JSON lines."""

import json
from types import TracebackType
from typing import Any, Protocol, Self

from shmfeed.demo import words
from shmfeed.demo.figures import Figures
from shmfeed.demo.plan import Plan


class Screen(Protocol):
    """A context manager around the time in which `show` is called."""

    interval: float  # seconds between two calls of `show`

    def say(self, line: str) -> None:
        """What is going on, before the figures begin."""

    def show(self, figures: Figures) -> None:
        """The figures of a moment."""

    def close(self, figures: Figures) -> None:
        """The figures of the whole, after the `with` block."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class PlainScreen:
    """A line a second, and the summary."""

    interval = 1.0

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def say(self, line: str) -> None:
        print(line, flush=True)

    def show(self, figures: Figures) -> None:
        print(words.tick(figures), flush=True)

    def close(self, figures: Figures) -> None:
        print("", *words.summary(self._plan, figures), sep="\n", flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


class JsonScreen(PlainScreen):
    """An object a second, and one of the whole with `"ok"`."""

    def say(self, line: str) -> None:
        pass

    def show(self, figures: Figures) -> None:
        print(json.dumps(_plain(figures)), flush=True)

    def close(self, figures: Figures) -> None:
        whole = {**_plain(figures), "ok": figures.good}
        print(json.dumps({"summary": whole}), flush=True)


def _plain(figures: Figures) -> dict[str, Any]:
    each = [{"strategy": n, **reads._asdict()} for n, reads in figures.each]
    return {**figures._asdict(), "all": figures.all._asdict(), "each": each}
