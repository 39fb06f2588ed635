"""What this project says when something is wrong, read out of its source.

A message is the text of an error, a warning or a line of the log, with `…` where a
value goes. Found are the calls of classes whose name ends in Error or Warning, and of
a logger; a text that stands in a variable is looked for in the same function.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

HOLE = "…"
_LOGGERS = {"log", "_log"}
_LEVELS = {"warning", "error", "critical", "exception"}
_LEAST_WORDS = 2  # a lone placeholder or word is another message's text handed on


def messages(root: Path, packages: tuple[str, ...]) -> dict[str, str]:
    """Each message, and the module that says it."""
    found: dict[str, str] = {}
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            tree = ast.parse(path.read_text())
            for text in _texts(tree):
                found.setdefault(text, str(path.relative_to(root)))
    return found


def _texts(tree: ast.Module) -> Iterator[str]:
    for function in _scopes(tree):
        texts = _variables(function)
        for node in _own_nodes(function):
            if isinstance(node, ast.Call) and (argument := _message_of(node)):
                names = [argument.id] if isinstance(argument, ast.Name) else []
                wanted = texts.get(names[0], []) if names else [argument]
                yield from filter(_tells, map(template, wanted))


def _scopes(tree: ast.Module) -> Iterator[ast.AST]:
    yield tree
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _own_nodes(scope: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(scope):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
            yield from _own_nodes(child)


def _variables(scope: ast.AST) -> dict[str, list[ast.expr]]:
    """What is assigned to each name here."""
    found: dict[str, list[ast.expr]] = {}
    for node in _own_nodes(scope):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found.setdefault(node.targets[0].id, []).append(node.value)
    return found


def _message_of(call: ast.Call) -> ast.expr | None:
    called = call.func
    name = (
        called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    )
    if name in _LEVELS and isinstance(called, ast.Attribute):
        logger = getattr(called.value, "id", "")
        return call.args[0] if logger in _LOGGERS and call.args else None
    if not name.endswith(("Error", "Warning")):
        return None
    return next((a for a in call.args if not isinstance(a, ast.Attribute)), None)


def template(node: ast.expr) -> str:
    """The text of an expression, `…` for what is not literal."""
    match node:
        case ast.Constant(value=str(text)):
            return text.replace("%s", HOLE).replace("%d", HOLE).replace("%o", HOLE)
        case ast.JoinedStr(values=parts):
            return "".join(map(template, parts))
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return template(left) + template(right)
        case ast.IfExp(body=body, orelse=other):
            return template(body) if _tells(template(body)) else template(other)
    return HOLE


def _tells(text: str) -> bool:
    words = [w for w in text.replace(HOLE, " ").split() if any(map(str.isalpha, w))]
    return len(words) >= _LEAST_WORDS
