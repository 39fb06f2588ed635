"""The files of results: JSON and text of each benchmark, and a page of the goals."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Found = dict[str, Any]  # the JSON of a benchmark
BEGIN, END = "<!-- measured -->", "<!-- measured, end -->"
# Goals that a page in short shows; it shows all missed goals too.
HEADLINES = frozenset(
    {
        "view(20).values",
        "view(20).values beside the blackboard read",
        "get_price(count=20)",
        "get_price(count=20) beside the replaced path",
        "our share of get_price(count=20), cold",
        "cut of 500 x 20 x 5, beside floor: 500 snapshots, concatenated",
        "get_price of 500 x 20 x 5, beside the replaced path",
        "append(wake=False) beside the blackboard write",
        "p50 from store to awake, beside Redis pub/sub",
        "p50 from store to awake with spin, beside a bare futex in C",
        "one read among attached processes, the costliest size beside 1",
        "private memory of a reader of all streams",
        "a whole feeder beside a bare receive loop, binance",
    }
)
_WORDS = {True: "met", False: "**missed**", None: "not measured"}


def save(into: Path, found: Found, table: str) -> None:
    """Write the JSON of one benchmark, and the table that it printed."""
    text = json.dumps(found, indent=1)
    Path(into, f"{found['benchmark']}.json").write_text(_compact(text) + "\n")
    Path(into, f"{found['benchmark']}.txt").write_text(table)


def _compact(text: str) -> str:
    """Put each innermost list and histogram on one line."""
    lines: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        inner = lines and _is_open(lines[-1]) and not stripped.endswith(("{", "["))
        if inner:
            gap = "" if lines[-1].endswith(("{", "[")) or stripped[0] in "]}" else " "
            lines[-1] += gap + stripped
        else:
            lines.append(line)
    return "\n".join(lines)


def _is_open(line: str) -> bool:
    return line.count("[") + line.count("{") > line.count("]") + line.count("}")


def load(into: Path, benchmarks: Sequence[str]) -> dict[str, Found]:
    """Return the saved JSON of these benchmarks, of this run or an earlier one."""
    paths = [Path(into, f"{benchmark}.json") for benchmark in benchmarks]
    return {path.stem: json.loads(path.read_text()) for path in paths if path.exists()}


def write_table(
    into: Path, found: Mapping[str, Found], drawn: Mapping[str, str]
) -> None:
    """Write README.md: the machine, each goal and its value, the missing rivals."""
    lines = ["# Results", "", *_machine(found), "", *_goals(found)]
    lines += ["", *_missing_lines(found)]
    for title, name in drawn.items():
        lines += [f"## {title}", "", f"![{title}]({name}.png)", ""]
    lines += ["## All numbers", ""]
    lines += [f"- [{name}]({name}.txt)" for name in found]
    Path(into, "README.md").write_text("\n".join(lines) + "\n")


def update_page(readme: Path, found: Mapping[str, Found]) -> None:
    """Write the machine and the goals in short between the two marks of a page."""
    before, begin, rest = readme.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{readme} has no lines {BEGIN} and {END}")
    text = "\n".join([*_machine(found), "", *_goals_in_short(found)])
    readme.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def _goals(found: Mapping[str, Found]) -> list[str]:
    return _table([goal for one in found.values() for goal in one["goals"]])


def _goals_in_short(found: Mapping[str, Found]) -> list[str]:
    """Return the table of the headlines and of every goal that was not met."""
    goals = [goal for one in found.values() for goal in one["goals"]]
    met = sum(goal["met"] is True for goal in goals)
    shown = [g for g in goals if g["what"] in HEADLINES or g["met"] is not True]
    total = (
        f"The table shows the main goals and each that was missed. Of all {len(goals)},"
        f" {met} were met."
    )
    return [*_table(shown), "", total]


def _table(goals: Sequence[Found]) -> list[str]:
    lines = ["| what | goal | reached: median (quartiles) | |", "|---|---|---|---|"]
    for what, goal, value, met in (one.values() for one in goals):
        lines.append(f"| {what} | {goal} | {value} | {_WORDS[met]} |")
    return lines


def _machine(found: Mapping[str, Found]) -> list[str]:
    """Return the machine of the first benchmark, and the times and loads of all."""
    machines = [one["machine"] for one in found.values()]
    shown = {k: v for k, v in machines[0].items() if k not in ("load", "at")}
    times = sorted(machine["at"] for machine in machines)
    loads = [machine["load"].split()[0] for machine in machines]
    measured = (
        f"Measured from {times[0]} to {times[-1]}; the load average at the end of each"
        f" benchmark: {', '.join(loads)}."
    )
    return [
        "; ".join(f"{name} {value}" for name, value in shown.items()) + ".",
        measured,
    ]


def _missing_lines(found: Mapping[str, Found]) -> list[str]:
    reasons = {
        f"- {rival}: {why}"
        for one in found.values()
        for rival, why in one["missing"].items()
    }
    return ["Not measured here:", "", *sorted(reasons), ""] if reasons else []
