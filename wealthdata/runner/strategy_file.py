"""The file of a strategy: a module of its own, and the handlers that it defines."""

import ast
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from shmfeed.errors import BadArgumentError
from shmfeed.text import one_line
from wealthdata.runner.callables import check_call, place_of
from wealthdata.runner.failures import describe_error, print_trace
from wealthdata.runner.watch import StoppedError

# The functions that the runner calls, and with what.
HANDLERS: dict[str, tuple[str, ...]] = {
    "initialize": ("context",),
    "process_initialize": ("context",),
    "before_trading_start": ("context",),
    "after_trading_end": ("context",),
    "handle_bar": ("context", "bar"),
    "handle_data": ("context", "data"),
    "on_health": ("context", "event"),
    "on_revised": ("context", "event"),
    "on_gap": ("context", "event"),
    "on_strategy_end": ("context",),
}
# Names of other platforms, and the handler that is meant.
_MEANT = {
    "init": "initialize",
    "handle_tick": "handle_bar",
    "on_bar": "handle_bar",
    "on_data": "handle_data",
    "on_tick": "handle_bar",
    "after_code_changed": "initialize",
}
_CLOSE = 0.8  # of a name to a handler's, from 0 to 1
_ACTING = ("initialize", "handle_bar", "handle_data")  # one of them is needed
# Modules that only JoinQuant has.
_OF_JOINQUANT = ("jqlib", "jqfactor", "kuanke", "kuanke_wealth", "jqboson")

Handler = Callable[..., Any]


class Strategy(NamedTuple):
    """A strategy's module.

    Attributes:
        path: The file, as it was named.
        label: Its name among the strategies of a run.
        module: Its module.
        handlers: Its handlers by name.
        unknown: Sentences about functions that are named almost like a handler.
    """

    path: str
    label: str
    module: ModuleType
    handlers: dict[str, Handler]
    unknown: tuple[str, ...]


class _Packages:
    """The packages that stand for the folders of strategies: files beside them.

    `from . import helper` finds a file beside the strategy, and so does
    `import helper`.
    """

    def __init__(self) -> None:
        self._names: dict[Path, str] = {}

    def name_of(self, folder: Path) -> str:
        if folder not in self._names:
            name = f"strategies_{len(self._names) + 1}"
            package = ModuleType(name, f"The files of {folder}.")
            package.__path__ = [str(folder)]
            sys.modules[name] = package
            sys.path.insert(0, str(folder))
            self._names[folder] = name
        return self._names[folder]

    def check_helpers(self, path: Path, tree: ast.Module) -> None:
        """Raise BadArgumentError if a file would import another folder's namesake."""
        for name in _imported(tree):
            loaded = sys.modules.get(name)
            origin = getattr(loaded, "__file__", None)
            beside = path.parent / f"{name}.py"
            if origin is None or not beside.exists():
                continue
            if (
                Path(origin).parent != path.parent
                and Path(origin).parent in self._names
            ):
                raise BadArgumentError(
                    f"{path.name} would import {name} of {origin}, which another"
                    f" strategy has imported; write 'from . import {name}' in both, or"
                    " run them apart"
                )


_packages = _Packages()


def load_strategy(path: str, label: str, names: Mapping[str, object]) -> Strategy:
    """Run the file of a strategy as a module, and return it with its handlers.

    Args:
        path: The file.
        label: Its name among the strategies of the run.
        names: The names that the module has before it runs.

    Raises:
        BadArgumentError: The file cannot be read, is not Python, raises or exits while
            it runs, or has no handler; the message names the file and the line.
    """
    tree, source = _parse(path)
    place = Path(path).resolve()
    package = _packages.name_of(place.parent)
    _packages.check_helpers(place, tree)
    stem = "".join(c if c.isidentifier() or c.isdigit() else "_" for c in place.stem)
    module = ModuleType(f"{package}.{stem}")
    module.__dict__.update(names)
    module.__file__ = str(place)
    module.__package__ = package
    module.__spec__ = spec_from_loader(module.__name__, None, origin=str(place))
    sys.modules[module.__name__] = module
    _execute(compile(source, str(place), "exec", dont_inherit=True), module, path)
    return _with_handlers(path, label, module)


def _parse(path: str) -> tuple[ast.Module, bytes]:
    file = Path(path)
    try:
        if file.is_dir():
            raise BadArgumentError(
                f"strategy {path!r} cannot be read: it is a directory; name its file"
            )
        source = file.read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, BadArgumentError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise BadArgumentError(f"strategy {path!r} cannot be read: {reason}") from None
    if file.suffix != ".py":
        raise BadArgumentError(
            f"strategy {path!r} is not accepted; its name must end in .py"
        )
    try:
        return ast.parse(source, path), source
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        reason = getattr(error, "msg", None) or str(error)
        raise BadArgumentError(
            f"{path} line {line}: {one_line(reason, 200)}; the file is not Python"
        ) from None


def _execute(code: Any, module: ModuleType, path: str) -> None:
    file = str(module.__file__)
    try:
        exec(code, module.__dict__)  # noqa: S102 # the strategy that the user names
    except (KeyboardInterrupt, StoppedError):
        raise
    except SystemExit as error:
        raise BadArgumentError(
            f"{describe_error(error, file, path)}: the file exits while it is loaded;"
            " move what it runs into initialize(context)"
        ) from None
    except BaseException as error:  # noqa: BLE001 # whatever the file raises
        print_trace(error)
        raise BadArgumentError(
            f"{describe_error(error, file, path)}, while the file is loaded"
            f"{_hint(error)}"
        ) from None


def _hint(error: BaseException) -> str:
    if not isinstance(error, ModuleNotFoundError):
        return ""
    package = (error.name or "").partition(".")[0]
    if package not in _OF_JOINQUANT:
        return ""
    return f"; {package} is a package of JoinQuant's platform, which is not here"


def _with_handlers(path: str, label: str, module: ModuleType) -> Strategy:
    handlers: dict[str, Handler] = {}
    for name, arguments in HANDLERS.items():
        found = vars(module).get(name)
        if found is not None:
            check_call(found, name, arguments)
            handlers[name] = found
    unknown = tuple(_near_misses(module, handlers))
    if not any(name in handlers for name in _ACTING):
        listed = ", ".join(f"{n}({', '.join(a)})" for n, a in HANDLERS.items())
        near = f"; {unknown[0]}" if unknown else ""
        raise BadArgumentError(
            f"{path} has no handler, so that nothing would run; the runner calls:"
            f" {listed}{near}"
        )
    return Strategy(path, label, module, handlers, unknown)


def _near_misses(module: ModuleType, handlers: Mapping[str, object]) -> Iterator[str]:
    """Yield a sentence for each function that is named almost like a handler."""
    free = [name for name in HANDLERS if name not in handlers]
    for name, value in vars(module).items():
        is_own = getattr(value, "__module__", None) == module.__name__
        meant = _meant(name, free) if is_own and callable(value) else None
        if meant is not None:
            yield f"{name}{place_of(value)} is never called; did you mean {meant}?"


def _meant(name: str, free: Sequence[str]) -> str | None:
    """Return the handler that a name stands for elsewhere, or almost spells."""
    if name in HANDLERS:
        return None
    meant = _MEANT.get(name.lower())
    near = get_close_matches(name.lower(), free, 1, _CLOSE)
    return meant if meant in free else next(iter(near), None)


def _imported(tree: ast.Module) -> set[str]:
    """Return the top names of the modules that a file imports by an absolute name."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.partition(".")[0])
    return found
