"""The page of messages lists exactly the messages that the source can show."""

import argparse
import builtins
import re
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest
from support.messages import HOLE, messages, texts_of

import wealthdata
from shmfeed import errors
from shmfeed.cli import exit_codes
from shmfeed.cli.main import COMMANDS
from shmfeed.control import messages as control_messages
from shmfeed.health import HEALTHS
from shmfeed.layout import COUNTERS, STATES
from wealthdata.runner import options

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "messages.md"
PACKAGES = ("shmfeed", "wealthdata")
HEAD = "| message | is | cause | what to do |"

# Texts that no user sees, and why.
UNSEEN = {
    "listening on …": "all is well",
    "connected to …": "all is well",
    "ok: every value that a strategy read is the venue's": "all is well",
    "connection replaced as planned, after … s": "no last error follows",
    "… refused a change": "as above; who asked is told the venue's words",
    "a session needs at least one endpoint": "a codec always has one",
    "it …": "the reason behind it is on the page",
    "… was replaced just now": "told as `is held by another process`",
    "the connection is not open": "a session asks only connections that it has opened",
}
# Options of docker and pip, and one that is misspelt in an example.
OF_OTHERS = ("--shm-size", "--memory", "--pids-limit", "--ipc", "--upgrade", "--symbol")
OF_OTHERS += ("--force-reinstall", "--no-deps")


class Entry(NamedTuple):
    """A row of the page: one message."""

    template: str
    examples: list[str]
    kind: str
    cause: str
    remedy: str


def entries(page: str) -> list[Entry]:
    """Return the rows of all tables of messages."""
    tables = page.split(HEAD)[1:]
    rows = (row for table in tables for row in table.split("\n\n")[0].splitlines()[2:])
    return [_entry(row) for row in rows]


def _entry(row: str) -> Entry:
    cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]
    assert len(cells) == 4, row
    spans = [span.strip() for _, span in re.findall(r"(`+)(.+?)\1(?!`)", cells[0])]
    return Entry(spans[0], spans[1:], *cells[1:])


def differences(page: str, said: dict[str, str]) -> list[str]:
    """Return a line for each message that the page lacks, repeats or invents."""
    listed = [entry.template for entry in entries(page)]
    missing = said.keys() - set(listed) - UNSEEN.keys()
    return sorted(
        [f"not on the page: {text} ({said[text]})" for text in missing]
        + [f"never shown: {text}" for text in set(listed) - said.keys()]
        + [f"twice: {text}" for text in set(listed) if listed.count(text) > 1]
        + [f"excluded, never shown: {text}" for text in UNSEEN.keys() - said.keys()]
        + [f"excluded and listed: {text}" for text in UNSEEN.keys() & set(listed)]
    )


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text()


@pytest.fixture(scope="module")
def said() -> dict[str, str]:
    return messages(ROOT, PACKAGES)


def test_the_page_has_each_message_once(page: str, said: dict[str, str]) -> None:
    assert len(said) > 200
    found = differences(page, said)
    assert not found, "\n".join(found)


def test_links_lead_somewhere(page: str) -> None:
    heads = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    anchors = {re.sub(r"[^a-z -]", "", h.lower()).replace(" ", "-") for h in heads}
    links = re.findall(r"\]\(#([^)]+)\)", page)
    assert links
    assert not set(links) - anchors


def first_cells(page: str, head: str) -> list[str]:
    """Return the first column of the section's table, without backticks."""
    section = page.split(f"## {head}\n")[1].split("\n## ", maxsplit=1)[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    return [row.split("|")[1].strip(" `") for row in rows]


def test_words_of_a_status_are_explained(page: str) -> None:
    assert first_cells(page, "Health") == [*HEALTHS, "closed"]
    assert first_cells(page, "State") == list(STATES)
    assert sorted(first_cells(page, "Counters")) == sorted(COUNTERS)


def test_exit_codes_are_explained(page: str) -> None:
    codes = {code for one in exit_codes.MEANINGS.values() for code in one}
    assert first_cells(page, "Exit codes") == [
        str(code) for code in sorted(codes | exit_codes.COMMON.keys())
    ]


def test_commands_and_options_on_the_page_exist(page: str) -> None:
    commands = set(re.findall(r"`shmfeed ([a-z]+)[ `]", page))
    assert commands == COMMANDS.keys()
    known = set(OF_OTHERS)
    for command in COMMANDS.values():
        parser = argparse.ArgumentParser()
        import_module(command.module).add_arguments(parser)
        known |= parser._option_string_actions.keys()
    runner = argparse.ArgumentParser()
    options.add_arguments(runner)
    known |= runner._option_string_actions.keys()
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page))
    assert len(named) > 20
    assert named <= known, named - known


def test_each_has_kind_cause_and_remedy(page: str) -> None:
    for entry in entries(page):
        assert all((entry.kind, entry.cause, entry.remedy)), entry


def test_error_classes_can_be_caught(page: str) -> None:
    kinds = " ".join(entry.kind for entry in entries(page))
    named = set(re.findall(r"\b[A-Z]\w+(?:Error|Warning)\b", kinds))
    homes = (builtins, errors, wealthdata, control_messages)
    assert len(named) > 15
    assert not [name for name in named if not any(hasattr(h, name) for h in homes)]


def test_examples_are_of_their_message(page: str) -> None:
    checked = 0
    for entry in entries(page):
        for example in entry.examples:
            checked += 1
            assert is_of(example, entry.template), (example, entry.template)
    assert checked > 30


def is_of(example: str, template: str) -> bool:
    """Return True if a text may be this message; `...` at its end is for the rest."""
    if not example.endswith("..."):
        return bool(_pattern(template).fullmatch(example))
    example = example.removesuffix("...").rstrip()
    ends = range(len(template) + 1)
    return any(_pattern(template[:end].rstrip()).fullmatch(example) for end in ends)


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(".+?".join(map(re.escape, template.split(HOLE))))


@pytest.mark.parametrize(
    ("example", "good"),
    [
        ("lost a: b", True),
        ("found a: b", False),
        ("lost a...", True),
        ("lose a...", False),
        ("lost : b", False),
    ],
)
def test_an_example_of_another_message_is_refused(example: str, good: bool) -> None:
    assert is_of(example, "lost …: …") is good


def test_a_new_message_is_found(page: str, said: dict[str, str]) -> None:
    new = {"the moon is …; it must be full": "shmfeed/moon.py"}
    expected = "not on the page: the moon is …; it must be full (shmfeed/moon.py)"
    assert expected in differences(page, said | new)


def test_a_message_that_was_removed_is_found(page: str, said: dict[str, str]) -> None:
    gone = entries(page)[0].template
    less = {text: module for text, module in said.items() if text != gone}
    assert f"never shown: {gone}" in differences(page, less)


def test_a_repeated_row_is_found(page: str, said: dict[str, str]) -> None:
    first = page.split(HEAD)[1].splitlines()[2]
    double = page.replace(first, f"{first}\n{first}", 1)
    assert f"twice: {entries(page)[0].template}" in differences(double, said)


# The reader of the source.


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('raise BadError("two words")', ["two words"]),
        ('raise errors.BadError("two words")', ["two words"]),
        ('raise BadError(f"{name!r} is {value:.1f} s")', ["… is … s"]),
        ('raise BadError(f"a{b}{c} is d")', ["a… is d"]),
        ('raise BadError("one " "two" + f" {three}")', ["one two …"]),
        ('raise BadError("a b" + (f"; its {c}" if c else ""))', ["a b; its …"]),
        ('raise BadError("a b" if c else "d e")', ["a b", "d e"]),
        ('raise BadError(c or "d e")', ["d e"]),
        ('raise BadError(f"{a} b {c}".rstrip())', ["… b …"]),
        ('raise FullError(errno.ENOSPC, f"no room in {place}")', ["no room in …"]),
        ('_NO = "not now"\ndef f():\n    raise BadError(_NO)', ["not now"]),
        ('def f():\n    text = f"a {b}"\n    raise BadError(text)', ["a …"]),
        ('def f(): return BusyError(f"held by {pid}", pid)', ["held by …"]),
        ('def f(): raise BadError(g())\ndef g(): return "so it is"', ["so it is"]),
        ('class A:\n  def f(s): warn(s.g(), W)\n  def g(s): return "a b"', ["a b"]),
        (
            'def f(): raise AError("a b")\nclass B:\n  def f(s): raise AError("c d")',
            ["a b", "c d"],
        ),
        ('class AError(E):\n  def __init__(s): super().__init__("a b")', ["a b"]),
        ('log.warning("feed %s: %d of %.1f", a, b, c)', ["feed …: … of …"]),
        ('_log.exception("it failed", exc_info=error or "no error")', ["it failed"]),
        ('log.info("now %s", "this is a value")', ["now …"]),
        ('parser.error(f"what is {this}")', ["what is …"]),
        ('_say(f"gave up after {n}")', ["gave up after …"]),
        ('warn(f"{a} is old", OldWarning)', ["… is old"]),
        ('facts = {"last_error": _NO}\n_NO = "not now"', ["not now"]),
        ('row |= {"reason": f"it is {a}"}', ["it is …"]),
        ('one._replace(reason=f"it is {a}")', ["it is …"]),
        ('def _why_it_stays(): return FAILED, "it is so"', ["it is so"]),
        ('problem("room", f"{a} is full", "enlarge it")', ["… is full"]),
        ('(problem if a else note)("room", f"{a} is full")', ["… is full"]),
        ('_A = "a b"\nraise BadError(f"{c}; {_A}; {_A!r}")', ["…; a b; …"]),
        ('_A = "no: "\ndef f():\n  t = _A + b\n  raise BadError(t)', ["no: …"]),
        ('with explained(f"proxy {a}: "): pass', ["proxy …:"]),
        ('def verdict(): return f"FAILED: {n} rows"', ["FAILED: … rows"]),
    ],
)
def test_reads_each_form_of_message(source: str, expected: list[str]) -> None:
    assert list(texts_of(source)) == expected


@pytest.mark.parametrize(
    "source",
    [
        "raise BadError(str(error))",
        'raise BadError(f"{a}: {b}")',
        'raise ConflictError(message, "endpoint", "port")',
        'log.debug("this is hidden")',
        'print("this is output")',
        'def f(): return "never shown"',
        "def f(): return BadError(f())",
    ],
)
def test_reads_no_message_elsewhere(source: str) -> None:
    assert list(texts_of(source)) == []
