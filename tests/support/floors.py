"""Read the imports of a source tree and list those that break its order.

Each room stands on a floor. A module imports from its own room and from rooms on lower
floors: never from a higher floor, never from another room of its floor. Neither modules
nor packages import each other in a circle. A room may restrict further which rooms it
uses. An import under `if TYPE_CHECKING` does not count.
"""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

MAX_MODULE_LINES = 500
MAX_FUNCTION_LINES = 40  # without its signature and docstring


class Room(NamedTuple):
    """A group of modules that may import each other.

    `modules` are names of modules, and of whole packages with `.*`. `uses` None permits
    all rooms below.
    """

    floor: int
    modules: str
    uses: frozenset[str] | None = None


Imports = dict[str, set[str]]


def read_imports(root: Path, packages: tuple[str, ...]) -> Imports:
    """Return what each module of these packages imports, by full name."""
    sources = {name_of(path, root): path for path in _sources(root, packages)}
    return {name: _imports(path, name, sources) for name, path in sources.items()}


def breaches(imports: Imports, rooms: Mapping[str, Room]) -> list[str]:
    """Return a line for each import that breaks the order, and each circle."""
    lines = []
    for module, targets in sorted(imports.items()):
        home = home_of(module, rooms)
        if home is None:
            lines.append(f"{module} has no floor yet")
            continue
        for target in sorted(targets & imports.keys()):
            reason = _objection(home, home_of(target, rooms), rooms)
            if reason:
                lines.append(f"{module} imports {target}: {reason}")
    of_modules = circles(imports)
    of_packages = [
        circle
        for circle in circles(between_packages(imports))
        if circle not in of_modules
    ]
    lines += [f"a circle: {' > '.join(circle)}" for circle in of_modules]
    return lines + [f"a circle of packages: {' > '.join(c)}" for c in of_packages]


def home_of(module: str, rooms: Mapping[str, Room]) -> str | None:
    """Return the room of a module: its own name counts before its package's."""
    packages = [module]
    while module:
        packages.append(f"{module}.*")
        module = module.rpartition(".")[0]
    for wanted in packages:
        for name, room in rooms.items():
            if wanted in room.modules.split():
                return name
    return None


def circles(imports: Imports) -> list[list[str]]:
    """Return the circles of modules that import each other, each once."""
    found: list[list[str]] = []
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> None:
        if module in path:
            found.append([*path[path.index(module) :], module])
            return
        if module in done:
            return
        # Importing a module of a package imports the package first: no circle.
        inner = (t for t in imports[module] if not module.startswith(f"{t}."))
        for target in sorted(set(inner) & imports.keys()):
            visit(target, [*path, module])
        done.add(module)

    for module in sorted(imports):
        visit(module, [])
    return found


def between_packages(imports: Imports) -> Imports:
    """Return the imports between packages: modules of one package become one node.

    A module directly below a top package stands for itself.
    """
    packages = {name.rpartition(".")[0] for name in imports if name.count(".") > 1}

    def node(module: str) -> str:
        inner = ".".join(module.split(".")[:2])
        return inner if inner in packages else module

    found: Imports = {}
    for module, targets in imports.items():
        here = node(module)
        inner = {node(target) for target in targets & imports.keys()}
        found.setdefault(here, set()).update(inner - {here})
    return found


def reach(imports: Imports, *modules: str) -> set[str]:
    """Return all modules that loading these may load, foreign ones included."""
    found: set[str] = set()
    waiting = [*modules]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += imports.get(module, ())
    return found


def oversized(root: Path, packages: tuple[str, ...]) -> list[str]:
    """Return a line for each module and each function that is too long."""
    lines = []
    for path in _sources(root, packages):
        text = path.read_text()
        size = len(text.splitlines())
        if size > MAX_MODULE_LINES:
            lines.append(
                f"{name_of(path, root)}: {size} lines; look whether this is one concept"
            )
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = _body_lines(node)
                if size > MAX_FUNCTION_LINES:
                    lines.append(f"{name_of(path, root)}.{node.name}: {size} lines")
    return lines


def _body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = function.body
    if len(body) > 1 and ast.get_docstring(function) is not None:
        body = body[1:]
    return (body[-1].end_lineno or 0) - body[0].lineno + 1


def name_of(path: Path, root: Path) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(
        ".__init__"
    )


def _sources(root: Path, packages: tuple[str, ...]) -> list[Path]:
    return sorted(path for name in packages for path in (root / name).rglob("*.py"))


def _objection(home: str, target: str | None, rooms: Mapping[str, Room]) -> str | None:
    if target is None or target == home:
        return None
    here, there = rooms[home], rooms[target]
    if there.floor >= here.floor:
        return f"{target} ({there.floor}) is not below {home} ({here.floor})"
    if here.uses is not None and target not in here.uses:
        return f"{home} does not use {target}"
    return None


def _imports(path: Path, name: str, sources: Mapping[str, Path]) -> set[str]:
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found: set[str] = set()
    for node in _statements(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, package)
            for alias in node.names:
                member = f"{base}.{alias.name}"
                found.add(member if member in sources else base)
    return found - {name}


def _base(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    parts = parts[: len(parts) - node.level + 1]
    return ".".join([*parts, *([node.module] if node.module else [])])


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes but those under `if TYPE_CHECKING`."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for statement in child.orelse:
                yield from _statements(statement)
        else:
            yield from _statements(child)
