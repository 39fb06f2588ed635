"""Find wording that CONTRIBUTING rules out in the project's sources and pages.

Run it by hand on any files or folders: `python tests/support/english.py shmfeed/wire`.
"""

import ast
import io
import os
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path

FIRST_WORD = re.compile(r"\W*(Whether|Which|What|How|Who|Whoever|Whose|Where|Why)\b")
ATTRIBUTE = re.compile(
    r"^\s+\w+(?:, \w+)*: (Whether|Which|What|How|Who|Whose|Why)\b", re.MULTILINE
)
COMMENT = re.compile(r"#\s*(What|Who|Whoever|How|Whether)\b")
PHRASES = re.compile(
    r"\b(anew|whoever|whatever it is|somebody|nobody|gone on with|goes on with"
    r"|to be had|can(?:not)? be had|could(?: not)? be had|was had|as ever"
    r"|carried no more|counts? (?:them |it )?no more|(?:the|its|whose) begin"
    r"|(?-i:is none|are none|was none)|he|him|his)\b",
    re.IGNORECASE,
)
# Every place of a Python file that breaks a rule holds one of these, code or prose.
_SUSPECT = re.compile(
    rf"(?i:{PHRASES.pattern})|[\"'#]{FIRST_WORD.pattern}|(?m:{ATTRIBUTE.pattern})"
)
SUFFIXES = (".py", ".pyi", ".c", ".h", ".md", ".toml")
_SKIPPED = {".git", ".venv", "build", "dist", "__pycache__", "results"}
_AVOIDED = "| instead of | write |"  # heads a table of wording to avoid
_OWN = {"english.py", "test_english.py"}  # they name what they look for


def offences(path: Path) -> list[str]:
    """Return one line for each place in a file that breaks a rule."""
    text = path.read_text()
    if path.suffix in (".py", ".pyi") and not _SUSPECT.search(text):
        return []  # what is looked for is not even in its code
    pieces = list(_python(text) if path.suffix in (".py", ".pyi") else _plain(text))
    lines = [
        f"{path}:{number}: {found[0]!r} in {_shortened(piece)}"
        for number, piece in pieces
        for found in PHRASES.finditer(piece)
    ]
    if path.suffix == ".py":
        lines += [
            f"{path}:{number}: {kind} begins with {found[1]!r}"
            for kind, number, found in _questions(text, pieces)
        ]
    return lines


def files(roots: Iterable[Path]) -> Iterator[Path]:
    """Yield the files of these roots that hold prose, in order."""
    for root in roots:
        for path in sorted([root] if root.is_file() else _below(root)):
            if path.suffix in SUFFIXES and path.name not in _OWN:
                yield path


def _below(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _SKIPPED]
        yield from (Path(place, name) for name in names)


def _python(text: str) -> Iterator[tuple[int, str]]:
    """Yield comments and strings with their line: the prose of a Python file."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING) or (
            tokenize.tok_name[token.type] == "FSTRING_MIDDLE"
        ):
            yield token.start[0], token.string


def _plain(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a page or a C source, without tables of wording to avoid."""
    avoided = False
    for number, line in enumerate(text.splitlines(), 1):
        avoided = line == _AVOIDED or (avoided and line.startswith("|"))
        if not avoided:
            yield number, line


def _docstrings(text: str) -> Iterator[tuple[int, str]]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, kinds) and (docstring := ast.get_docstring(node)):
            yield node.body[0].lineno, docstring


def _questions(
    text: str, pieces: Iterable[tuple[int, str]]
) -> Iterator[tuple[str, int, re.Match[str]]]:
    """Yield docstrings, attributes and comments that begin with a question word."""
    for number, docstring in _docstrings(text):
        if found := FIRST_WORD.match(docstring):
            yield "a docstring", number, found
        for found in ATTRIBUTE.finditer(docstring):
            yield "an attribute", number, found
    for number, piece in pieces:
        if found := COMMENT.match(piece):
            yield "a comment", number, found


def _shortened(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= 70 else words[:67] + "..."


if __name__ == "__main__":
    found = [
        line
        for path in files([Path(name) for name in sys.argv[1:]] or [Path()])
        for line in offences(path)
    ]
    print(*found, sep="\n")
    sys.exit(bool(found))
