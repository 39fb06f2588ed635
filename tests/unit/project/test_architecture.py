"""The listing that opens ARCHITECTURE.md has one line for each module."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FOLDERS = ("shmfeed", "wealthdata")
SUFFIXES = (".py", ".pyi", ".c", ".h")
LINE = re.compile(r"( *)([\w.]+/?)(?: +(\S.*))?")


def listed(page: str) -> list[str]:
    """Return the paths of the files in the first fenced block of a page, in order.

    A folder ends in a slash, and its files stand below it, two spaces further in.
    ValueError for a line that is no entry or says nothing.
    """
    found: list[str] = []
    folders: list[str] = []
    for line in page.split("```")[1].splitlines()[1:]:
        entry = LINE.fullmatch(line)
        if entry is None or not entry[3]:
            raise ValueError(line)
        depth = len(entry[1]) // 2
        folders[depth:] = [entry[2]]
        if not entry[2].endswith("/"):
            found.append("".join(folders))
    return found


def modules() -> set[str]:
    """Return the paths of the sources; a folder's line stands for its __init__.py."""
    paths = (path for name in FOLDERS for path in (ROOT / name).rglob("*"))
    return {
        str(path.relative_to(ROOT))
        for path in paths
        if path.suffix in SUFFIXES
        and (path.name != "__init__.py" or path.parent.name in FOLDERS)
    }


def test_each_module_has_one_line_and_each_line_a_module() -> None:
    found = listed((ROOT / "ARCHITECTURE.md").read_text())
    assert not [name for name in found if found.count(name) > 1]
    assert sorted(modules() - set(found)) == []  # give it a line
    assert sorted(name for name in set(found) - modules()) == []  # remove its line


def test_a_line_is_read_with_its_folders() -> None:
    page = "# A\n```\na/  one\n  b/  two\n    c.py  three\n  d.py  four\n```\n"
    assert listed(page) == ["a/b/c.py", "a/d.py"]


@pytest.mark.parametrize("line", ["a.py", "- a.py  one", "a/b.py  one"])
def test_a_line_without_a_text_or_of_another_form_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=re.escape(line)):
        listed(f"```\n{line}\n```\n")
