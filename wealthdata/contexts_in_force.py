"""The contexts in force in this process, and which of them a read is for.

Each thread and each asyncio task has the context that it has set. One that has set none
reads for the process's, if exactly one is in force: so the threads that a strategy
starts read for its context. A context is in force until it is cleared, or the thread or
task that has set it ends. The registry is weak: the context variable of the thread or
task alone keeps its setting, so a thread that dies without clearing leaves nothing.

A thread or task that has read live bars without a context has READ_LIVE in the variable
instead. A backtest's context that another thread has set is never handed to it.
"""

import contextvars
import weakref
from typing import Any, ClassVar, Final

from shmfeed.errors import ContextError
from wealthdata.backtest_mark import mark
from wealthdata.choices import reads_no_feed_by_use
from wealthdata.context_view import ContextView, Known
from wealthdata.holders import (
    TaskHolder,
    ThreadHolder,
    current_holder,
    current_task,
    heirs_of_task,
)
from wealthdata.read_log import tracked


class ReadLive:
    """The mark of a thread or task that has read live bars and has set no context."""

    __slots__ = ()


READ_LIVE: Final = ReadLive()


class Setting:
    """A context as one thread or task has set it.

    Child tasks, and functions run in a copy of the variables, have the same setting.
    The C core reads `known`.
    """

    __slots__ = ("__weakref__", "_holders", "has_read_live", "known", "view")

    def __init__(self, view: ContextView, has_read_live: bool) -> None:
        self.view = view
        self.has_read_live = has_read_live
        self.known: Known | None = None  # of a context that has read live bars
        self._holders: list[ThreadHolder | TaskHolder] = []

    def hold(self) -> None:
        """Keep the setting in force until the current thread or task ends."""
        if any(holder.is_current() for holder in self._holders):
            return
        self._holders.append(current_holder(_refresh))
        key = id(self)

        def forget(_reference: object) -> None:
            settings.pop(key, None)
            _refresh()

        if key not in settings:
            settings[key] = weakref.ref(self, forget)

    def release(self) -> None:
        """End what the current thread or task holds: it has another value by now.

        Tasks that have inherited the setting hold it from here on.
        """
        self._holders = [h for h in self._holders if not h.is_current()]
        for task in heirs_of_task(current, self):
            if not any(holder.is_of(task) for holder in self._holders):
                self._holders.append(TaskHolder(task, _refresh))

    @property
    def is_held(self) -> bool:
        """True while a thread or task that holds the setting has not ended."""
        return any(holder.has_set(current, self) for holder in self._holders)


# Of the current thread or task.
current: contextvars.ContextVar[Setting | ReadLive | None] = contextvars.ContextVar(
    "wealthdata_context", default=None
)
_current = current.get  # bound once, for every read

# All settings by their ids, as weak references.
settings: dict[int, "weakref.ref[Setting]"] = {}


class Registered:
    """The data adapter of this process, which stands in for the context's bars.

    `names` has the name of its class; it is empty without an adapter.
    """

    adapter: Any = None
    view: ContextView | None = None
    names: ClassVar[set[str]] = set()


registered = Registered()


def register(adapter: Any, view: ContextView | None) -> None:
    """Replace the data adapter; None removes it.

    Raise BadArgumentError if the kind of the run of its context is not accepted.
    """
    if view is not None:
        view.is_backtest  # noqa: B018 # raises
        view.on_change(mark.refresh)
    registered.view = view
    registered.adapter = adapter
    registered.names.clear()
    if adapter is not None:
        registered.names.add(type(adapter).__name__)
    mark.refresh()


def _refresh(_ended: object = None) -> None:
    mark.refresh(wait=False)


def set_view(view: ContextView) -> None:
    """Set the context of the current thread or task.

    Raise BadArgumentError if the kind of its run is not accepted.
    """
    view.is_backtest  # noqa: B018 # raises
    earlier = _current()
    setting = Setting(view, _has_read_live(earlier))
    setting.hold()
    view.on_change(mark.refresh)
    current.set(setting)
    _release(earlier)
    mark.refresh()


def clear_view() -> None:
    """Clear the context of the current thread or task, if it has one."""
    earlier = _current()
    if isinstance(earlier, Setting):
        current.set(READ_LIVE if _has_read_live(earlier) else None)
        _release(earlier)
        mark.refresh()


def _has_read_live(earlier: Setting | ReadLive | None) -> bool:
    if isinstance(earlier, Setting):
        return earlier.has_read_live
    return earlier is READ_LIVE


def _release(earlier: Setting | ReadLive | None) -> None:
    if isinstance(earlier, Setting):
        earlier.release()
        if not earlier.is_held:
            settings.pop(id(earlier), None)


def own_view() -> ContextView | None:
    """Return the context that the current thread or task has set, or None."""
    own = _current()
    return own.view if isinstance(own, Setting) else None


def view_in_force() -> ContextView | None:
    """Return the context that a read of the current thread or task is for, or None.

    Raise ContextError if it has set none and it is not clear which one is meant.
    """
    own = _current()
    if own.__class__ is Setting:
        return own.view
    if not settings:
        return None
    return _handed_over(own is READ_LIVE)


def _handed_over(has_read_live: bool) -> ContextView | None:
    views = list({id(view.context): view for view in _views()}.values())
    if len(views) > 1:
        raise ContextError(
            f"{len(views)} contexts are in force in this process, and this thread or"
            " task has set none; call wealthdata.set_context(context) in it, or start"
            " its function with contextvars.copy_context().run, which hands over the"
            " context of the caller"
        )
    if views and has_read_live and views[0].is_backtest:
        raise ContextError(
            "this thread or task has read live bars, and the only context in force is a"
            " backtest's, which another thread or task has set; to belong to it, call"
            " wealthdata.set_context(context) or start with contextvars.copy_context()"
            ".run; to stay live, call wealthdata.set_context(wealthdata.Context())"
        )
    return views[0] if views else None


def _views() -> list[ContextView]:
    """Return the view of each setting that is in force, and drop the others."""
    found, has_dropped = [], False
    for key, reference in list(settings.items()):
        setting = reference()
        if setting is not None and setting.is_held:
            found.append(setting.view)
        elif settings.get(key) is reference:
            settings.pop(key, None)
            has_dropped = True
    if has_dropped:
        _refresh()
    return found


def hold_for_task() -> None:
    """Keep the context that an asyncio task has inherited in force until it ends.

    A thread that runs a function in a copy of another's variables holds nothing: its
    own end says nothing about that of the function.
    """
    own = _current()
    if isinstance(own, Setting) and current_task() is not None:
        own.hold()


def note_live_read() -> None:
    """Note that the current thread or task has read live bars."""
    own = _current()
    if own is None:
        current.set(READ_LIVE)
    elif own.__class__ is Setting:
        if tracked and own.has_read_live:
            return  # what is known is for the C core, which serves no read now
        own.has_read_live = True
        own.known = own.view.known()


def another_is_backtest() -> bool:
    """Return True if a read of a context that the caller names is within a backtest.

    It is if the context of the current thread or task is a backtest's; for one that has
    neither set any nor read live bars, if any context in force is.
    """
    own = _current()
    if isinstance(own, Setting):
        return own.view.is_backtest
    return own is None and any(view.is_backtest for view in _views())


def _backtest_in_force(ask_again: bool) -> bool:
    if reads_no_feed_by_use():
        return True
    views = [*_views(), *([registered.view] if registered.view else [])]
    return any(v.is_backtest if ask_again else v.known_backtest for v in views)


mark.in_force = _backtest_in_force
