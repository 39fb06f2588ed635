"""The threads and asyncio tasks that hold a setting, and when their hold ends.

A thread holds until it ends. A task holds until it is done, and so are the tasks that
have inherited what it has set. Where other tasks run with its very variables, not with
a copy of them, what it has set is still set: a notebook's kernel runs each cell as a
task, all with the same variables.
"""

import gc
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextvars import Context, ContextVar
from typing import Any


class Token:
    """A stand-in for a thread, which dies with it."""

    __slots__ = ("__weakref__",)


class _ThreadEnd(threading.local):
    def __init__(self) -> None:
        self.token = Token()


_thread_end = _ThreadEnd()
_watched_tasks: weakref.WeakSet[Any] = weakref.WeakSet()


class ThreadHolder:
    """The current thread. `ended` is called at its end."""

    __slots__ = ("_token",)

    def __init__(self, ended: Callable[[object], None]) -> None:
        self._token = weakref.ref(_thread_end.token, ended)

    def is_of(self, _task: object) -> bool:
        return False

    def is_current(self) -> bool:
        """Return True in this thread, outside of any task."""
        return self._token() is _thread_end.token and current_task() is None

    def has_set(self, _variable: ContextVar[Any], _value: object) -> bool:
        """Return True until the thread ends."""
        return self._token() is not None


class TaskHolder:
    """An asyncio task. `ended` is called once it is done."""

    __slots__ = ("_loop", "_task", "_variables")

    def __init__(self, task: Any, ended: Callable[[object], None]) -> None:
        self._task = weakref.ref(task, ended)
        self._loop = weakref.ref(task.get_loop())
        variables = _variables_of(task)
        self._variables = None if variables is None else weakref.ref(variables, ended)
        if task not in _watched_tasks:  # a strategy may set a context at each bar
            _watched_tasks.add(task)
            task.add_done_callback(ended, context=Context())

    def is_of(self, task: object) -> bool:
        """Return True if it is this task."""
        return self._task() is task

    def is_current(self) -> bool:
        """Return True in this task."""
        task = self._task()
        return task is not None and task is current_task()

    def has_set(self, variable: ContextVar[Any], value: object) -> bool:
        """Return True until the task and those that inherit the value are done.

        If other tasks have its very variables: until these have another value, or the
        loop is closed.
        """
        task, loop = self._task(), self._loop()
        if task is not None and not task.done():
            return True
        if loop is None or loop.is_closed():
            return False  # it runs no task any more, whatever holds the variables
        return self._is_shared(variable, value, task) or _has_heir(
            loop, variable, value
        )

    def _is_shared(self, variable: ContextVar[Any], value: object, task: Any) -> bool:
        if self._variables is None:
            return False
        if _references(self._variables) - _WITHIN <= (task is not None):
            return False  # the variables were the task's alone
        variables = self._variables()
        return variables is not None and variables.get(variable) is value


def _has_heir(loop: Any, variable: ContextVar[Any], value: object) -> bool:
    return any(True for _ in _heirs(loop, variable, value))


def _heirs(loop: Any, variable: ContextVar[Any], value: object) -> Iterator[Any]:
    """Yield the tasks of the loop, which are not done, that have the value."""
    for task in sys.modules["asyncio"].all_tasks(loop):
        found = _variables_of(task)
        if found is not None and found.get(variable) is value:
            yield task


def heirs_of_task(variable: ContextVar[Any], value: object) -> list[Any]:
    """Return the tasks that have inherited a value which the current one has dropped.

    They are tasks of the current task's loop. The list is empty outside of a task.
    """
    task = current_task()
    return [] if task is None else list(_heirs(task.get_loop(), variable, value))


def current_holder(ended: Callable[[object], None]) -> ThreadHolder | TaskHolder:
    """Return the current task or, outside of one, the thread."""
    task = current_task()
    return ThreadHolder(ended) if task is None else TaskHolder(task, ended)


def current_task() -> Any:
    """Return the current asyncio task, or None. Do not load asyncio."""
    asyncio = sys.modules.get("asyncio")  # it loads a socket library
    if asyncio is None:
        return None
    try:
        return asyncio.current_task()
    except RuntimeError:  # no event loop runs in this thread
        return None


def _variables_of(task: Any) -> Context | None:
    """Return the context variables with which a task runs."""
    if hasattr(task, "get_context"):  # Python 3.12
        found: Context | None = task.get_context()
        return found
    parts = gc.get_referents(task)
    return next((part for part in parts if type(part) is Context), None)


def _references(variables: weakref.ref[Context]) -> int:
    found = variables()
    return 0 if found is None else sys.getrefcount(found)


def _references_within() -> int:
    """Return the references that `_references` itself adds."""
    probe = Context()
    return _references(weakref.ref(probe)) - 1


_WITHIN = _references_within()
