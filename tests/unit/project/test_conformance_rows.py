"""The rows of the golden cases are those of the tables of differences."""

import re
from pathlib import Path

from conformance import case
from conformance.__main__ import DECISIONS

DOCS = Path(__file__).parents[3] / "docs"


def rows_of(page: str, title: str) -> list[str]:
    text = (DOCS / page).read_text()
    section = text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return re.findall(r"\| `([a-z0-9-]+)` \|$", section, re.MULTILINE)


def test_each_row_has_cases_and_each_case_a_row() -> None:
    rows = rows_of("joinquant.md", "Differences")
    assert len(rows) > 50
    assert {DECISIONS, *(one.row for one in case.load())} == set(rows)


def test_the_chinese_page_has_the_same_rows() -> None:
    rows = rows_of("joinquant.md", "Differences")
    assert rows_of("zh/joinquant.md", "差异") == rows
