"""Read the messages of this project out of its source.

A message is the text of an error, of a warning, of a log line or of a line on standard
error, with `…` in place of each value. Messages are the arguments of classes whose name
ends in Error, Exception or Warning, of loggers, and of the functions named below. The
text may be the argument itself, a variable, a constant, or the result of a function of
the same module.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

HOLE = "…"
_LOGGERS = {"log", "_log"}
_LEVELS = {"info", "warning", "error", "critical", "exception"}
_PARSERS = {"parser", "subparser"}  # of argparse: `error` ends the command with a text
# Functions that show, keep or send a text that they are given.
_SAY = {"warn", "_warn", "print_error", "_say", "_last_error", "_leave"}
_SAY |= {"leave", "_go_away", "_announce"}  # why a connection is replaced, or waits
_SAY |= {"malformed", "Malformed", "explained"}  # parts of others
_SAY |= {"_refusal", "_failure"}  # the local venue's, to its client
_SAY |= {"Leftover", "_all_stay"}  # why it has to stay
_SAY |= {"SymbolState", "explain_silence", "put"}  # `why` of a stream
_SAY |= {"tell", "_inform"}  # lines of the runner
_FIND = {"problem", "note"}  # doctor findings: check, found, remedy
# Functions whose text is shown.
_RETURN = {"verdict", "_listed", "_describe", "_why_it_stays"}
_RETURN |= {"_drop_reason", "_why_dropped", "describe_bar", "describe_error"}
_RETURN |= {"describe_unknown_command", "describe_unknown_arguments"}
_RETURN |= {"describe_repeated_option", "suggest_feeds", "describe_fault"}
_RETURN |= {"_describe_policy", "_uncompared", "difference", "_values", "_verdict"}
_RETURN |= {"describe_other_feeds", "why_away"}
_NAMED = {"last_error", "reason"}  # keys and keywords whose value is shown
_FORMAT = re.compile(r"%(\.\d+)?[sdorfgx]")
_EDGES = {"rstrip", "strip"}

_Scope = ast.Module | ast.FunctionDef | ast.AsyncFunctionDef


def messages(root: Path, packages: tuple[str, ...]) -> dict[str, str]:
    """Return each message with the module that has it."""
    found: dict[str, str] = {}
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            for text in texts_of(path.read_text()):
                found.setdefault(text, str(path.relative_to(root)))
    return found


def texts_of(source: str) -> Iterator[str]:
    """Yield the messages of one module."""
    module = _Texts(ast.parse(source))
    yield from filter(_tells, module.said())


class _Texts:
    """The texts of one module, found by following its expressions."""

    def __init__(self, tree: ast.Module) -> None:
        self._tree = tree
        self._functions = [  # methods too: several may have one name
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        self._constants = {
            name: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for name in _names(node)
            if isinstance(node.value.value, str)
        }
        self._open: set[str] = set()  # functions being followed: one may call itself

    def said(self) -> Iterator[str]:
        for scope in (self._tree, *self._functions):
            for node in _own_nodes(scope):
                for argument in _said_by(node):
                    yield from self.texts(argument, scope)
        for name in sorted(_RETURN):
            yield from self._returned(name)
        for error in (n for n in ast.walk(self._tree) if isinstance(n, ast.ClassDef)):
            if error.name.endswith("Error"):
                yield from self._own_text(error)

    def texts(self, node: ast.expr, scope: _Scope) -> Iterator[str]:
        """Yield the texts that this expression may have, as far as they are known."""
        match node:
            case ast.Constant(value=str()) | ast.JoinedStr() | ast.BinOp():
                yield template(node, self._constants)
            case ast.Tuple(elts=parts):
                for part in parts:
                    yield from self.texts(part, scope)
            case ast.IfExp(body=body, orelse=other):
                yield from self.texts(body, scope)
                yield from self.texts(other, scope)
            case ast.BoolOp(values=values):
                for value in values:
                    yield from self.texts(value, scope)
            case ast.Name(id=name):
                for value in _assigned(name, scope) or _assigned(name, self._tree):
                    yield from self.texts(value, scope)
            case ast.Call(func=ast.Attribute(value=value, attr=method)) if (
                method in _EDGES
            ):
                yield from self.texts(value, scope)
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
                yield from self._returned(name)

    def _returned(self, name: str) -> Iterator[str]:
        if name in self._open:
            return
        self._open.add(name)
        for function in (f for f in self._functions if f.name == name):
            for node in _own_nodes(function):
                if isinstance(node, ast.Return) and node.value is not None:
                    yield from self.texts(node.value, function)
        self._open.remove(name)

    def _own_text(self, error: ast.ClassDef) -> Iterator[str]:
        """Yield the texts that an error passes to `super().__init__`."""
        for scope in (n for n in error.body if isinstance(n, ast.FunctionDef)):
            for node in _own_nodes(scope):
                match node:
                    case ast.Call(
                        func=ast.Attribute(
                            value=ast.Call(func=ast.Name(id="super")), attr="__init__"
                        ),
                        args=[text, *_],
                    ):
                        yield from self.texts(text, scope)


def _said_by(node: ast.AST) -> list[ast.expr]:
    """Return the parts of a node that may be a text for a user; most have none."""
    match node:
        case ast.Dict(keys=keys, values=values):
            named = (getattr(key, "value", None) for key in keys)
            return [v for k, v in zip(named, values, strict=True) if k in _NAMED]
        case ast.keyword(arg=name, value=value) if name in _NAMED:
            return [value]
        case ast.Call(
            func=ast.Attribute(value=ast.Name(id=owner), attr=name), args=args
        ) if owner in _LOGGERS:
            return args[:1] if name in _LEVELS else []  # the rest are its values
        case ast.Call(
            func=ast.Attribute(value=ast.Name(id=owner), attr="error"), args=args
        ):
            return args if owner in _PARSERS else []
        case ast.Call(func=ast.IfExp(body=function), args=args):
            return _said_by(ast.Call(function, args, []))
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=args):
            if name in _FIND:
                return args[1:2]
            said = name in _SAY or name.endswith(("Error", "Exception", "Warning"))
            return args if said else []
    return []


def _own_nodes(scope: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a scope without those of its functions."""
    for child in ast.iter_child_nodes(scope):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
            yield from _own_nodes(child)


def _assigned(name: str, scope: _Scope) -> list[ast.expr]:
    """Return the values that a scope assigns to a name."""
    return [
        node.value
        for node in _own_nodes(scope)
        if isinstance(node, ast.Assign) and name in _names(node)
    ]


def _names(node: ast.Assign) -> list[str]:
    return [target.id for target in node.targets if isinstance(target, ast.Name)]


def template(node: ast.expr, constants: Mapping[str, str]) -> str:
    """Return an expression's text with one `…` for each part that is unknown."""
    return re.sub(f"{HOLE}+", HOLE, _joined(node, constants)).strip()


def _joined(node: ast.expr, constants: Mapping[str, str]) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return _FORMAT.sub(HOLE, text)
        case (
            ast.Name(id=name)
            | ast.FormattedValue(value=ast.Name(id=name), conversion=-1)
        ):
            return constants.get(name, HOLE)
        case ast.JoinedStr(values=parts):
            return "".join(_joined(part, constants) for part in parts)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _joined(left, constants) + _joined(right, constants)
        case ast.IfExp(body=body, orelse=other):
            text = _joined(body, constants)
            return text if _tells(text) else _joined(other, constants)
    return HOLE


def _tells(text: str) -> bool:
    # A lone placeholder repeats another message; a lone word is a name.
    words = [w for w in text.replace(HOLE, " ").split() if any(map(str.isalpha, w))]
    return len(words) > 1 or bool(words and HOLE in text)
