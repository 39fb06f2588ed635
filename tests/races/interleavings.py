"""Every interleaving of a few threads, each step whole and seen by all at once.

For protocols whose steps are locks, system calls and single words on one machine; the
machine of `weak_memory` reorders loads and stores besides. A thread is a list of steps.
A step changes the memory and returns None to go on, WAIT if it cannot be done now, a
step's number to jump to, or END. A thread that never gets on may be a process that was
killed there, so each state is judged, not each end alone.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

Memory = dict[str, Hashable]
Step = Callable[[Memory], int | None]

WAIT, END = -1, 1 << 30


class Explored(NamedTuple):
    """The states that were reached, those in which all threads ended, and the verdicts.

    `wrong` counts the states by the objection of the judge.
    """

    states: int
    ends: int
    wrong: Counter[str]


def explore(
    memory: Memory,
    threads: Sequence[Sequence[Step]],
    judge: Callable[[Memory], str | None],
) -> Explored:
    """Visit each state that the threads can reach from `memory`."""
    start = tuple(sorted(memory.items())), (0,) * len(threads)
    seen, waiting = {start}, [start]
    ends, wrong = 0, Counter[str]()
    while waiting:
        words, at = waiting.pop()
        objection = judge(dict(words))
        if objection is not None:
            wrong[objection] += 1
        ends += all(step >= len(steps) for step, steps in zip(at, threads, strict=True))
        for number, steps in enumerate(threads):
            following = _step(words, at, number, steps)
            if following is not None and following not in seen:
                seen.add(following)
                waiting.append(following)
    return Explored(len(seen), ends, wrong)


_State = tuple[tuple[tuple[str, Hashable], ...], tuple[int, ...]]


def _step(words: object, at: tuple[int, ...], number: int, steps: Sequence[Step]):
    if at[number] >= len(steps):
        return None
    memory: Memory = dict(words)  # type: ignore[call-overload]
    then = steps[at[number]](memory)
    if then == WAIT:
        return None
    to = at[number] + 1 if then is None else then
    moved = (*at[:number], to, *at[number + 1 :])
    return tuple(sorted(memory.items())), moved
