"""The project's prose keeps to the rules of CONTRIBUTING; the lint can fail."""

from pathlib import Path

import pytest
from support.english import files, offences

ROOT = Path(__file__).parents[3]


def test_the_project_keeps_to_its_english() -> None:
    found = [line for path in files([ROOT]) for line in offences(path)]
    assert found == []


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('"""Whether it is so."""', "Whether"),
        ('def f():\n    """What it holds."""', "What"),
        ('class A:\n    """How it works."""', "How"),
        ('"""Which symbols are refused."""', "Which"),
        ('class A:\n    def f(self):\n        """Who may call it."""', "Who"),
        (
            'class A:\n    """One.\n\n    Attributes:\n        a: Why so.\n    """',
            "Why",
        ),
        ("x = 1  # What it holds", "What"),
        ("x = 1  # made anew", "anew"),
        ("x = 1  # sent as ever", "as ever"),
        ("x = 1  # at the begin of a day", "the begin"),
        ('raise ValueError("nobody is let in")', "nobody"),
        ('raise ValueError(f"{1} feed is to be had")', "to be had"),
        ("x = 1  # history that could not be had", "could not be had"),
        ("x = 1  # a stream that is carried no more", "carried no more"),
        ("x = 1  # the exit code counts them no more", "counts them no more"),
        ('"""Text, where a bool is none."""', "is none"),
    ],
)
def test_a_breach_is_found(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "module.py"
    path.write_text(f"{text}\n")
    assert [word in line for line in offences(path)] == [True]


@pytest.mark.parametrize(
    "text",
    [
        '"""Return what the feeder wrote."""',
        "x = None  # None where the venue is None",
        "nobody = 65534",
        'def f(anew):\n    """Return the somebodies."""\n    return anew',
    ],
)
def test_plain_words_pass(tmp_path: Path, text: str) -> None:
    path = tmp_path / "module.py"
    path.write_text(f"{text}\n")
    assert offences(path) == []


def test_pages_and_c_sources_are_read(tmp_path: Path) -> None:
    table = "| instead of | write |\n|---|---|\n| made anew | made again |\n"
    (tmp_path / "page.md").write_text(f"{table}\nSomebody reads it.\n")
    (tmp_path / "core.c").write_text("/* Nobody writes it. */\n")
    (tmp_path / "data.json").write_text("nobody")
    found = [line for path in files([tmp_path]) for line in offences(path)]
    assert [Path(line.split(":")[0]).name for line in found] == ["core.c", "page.md"]
