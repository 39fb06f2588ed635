"""The rows of the golden cases are those of the tables of differences."""

import re
from pathlib import Path

from conformance import case
from conformance.__main__ import DECISIONS

PAGE = Path(__file__).parents[3] / "docs" / "joinquant.md"


def rows_of_the_page() -> list[str]:
    section = PAGE.read_text().partition("\n## Differences\n")[2].partition("\n## ")[0]
    return re.findall(r"\| `([a-z0-9-]+)` \|$", section, re.MULTILINE)


def test_each_row_has_cases_and_each_case_a_row() -> None:
    rows = rows_of_the_page()
    assert len(rows) > 50
    assert {DECISIONS, *(one.row for one in case.load())} == set(rows)
