"""What was found, kept as files: a JSON and a text for each program, and the table."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Found = dict[str, Any]
BEGIN, END = "<!-- measured -->", "<!-- measured, end -->"
# The goals that a page shows in short; those that were missed are always shown.
HEADLINES = frozenset(
    {
        "view(20).values",
        "view(20).values beside the blackboard read",
        "get_price(count=20)",
        "get_price(count=20) beside the replaced path",
        "append(wake=False) beside the blackboard write",
        "p50 from store to awake, beside Redis pub/sub",
        "attached processes: one read, the dearest at 64, beside 1",
        "private memory of a reader of all streams",
        "a whole feeder beside a bare receive loop, binance",
    }
)
_WORDS = {True: "met", False: "**missed**", None: "not measured"}


def keep(into: Path, found: Found, table: str) -> None:
    """One program's results, and the table that it printed."""
    text = json.dumps(found, indent=1)
    Path(into, f"{found['program']}.json").write_text(_compact(text) + "\n")
    Path(into, f"{found['program']}.txt").write_text(table)


def _compact(text: str) -> str:
    """Innermost lists and histograms on one line each."""
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


def kept(into: Path, programs: Sequence[str]) -> dict[str, Found]:
    """What is there of these programs, of this run or an earlier one."""
    paths = [Path(into, f"{program}.json") for program in programs]
    return {path.stem: json.loads(path.read_text()) for path in paths if path.exists()}


def write_table(
    into: Path, found: Mapping[str, Found], drawn: Mapping[str, str]
) -> None:
    """README.md: the machine, each goal and what was reached, what is not here."""
    lines = ["# What was measured", "", *_machine(found), "", *_goals(found)]
    lines += ["", *_absent(found)]
    for title, name in drawn.items():
        lines += [f"## {title}", "", f"![{title}]({name}.png)", ""]
    lines += ["## All figures", ""]
    lines += [f"- [{name.replace('_', ' ')}?]({name}.txt)" for name in found]
    Path(into, "README.md").write_text("\n".join(lines) + "\n")


def show(readme: Path, found: Mapping[str, Found]) -> None:
    """Write the machine and the goals in short between the two marks of a page."""
    before, begin, rest = readme.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{readme} has no {BEGIN} and {END} to write between")
    told = "\n".join([*_machine(found), "", *_goals_in_short(found)])
    readme.write_text(f"{before}{BEGIN}\n{told}\n{END}{after}")


def _goals(found: Mapping[str, Found]) -> list[str]:
    return _table([goal for program in found.values() for goal in program["goals"]])


def _goals_in_short(found: Mapping[str, Found]) -> list[str]:
    """The table of the headlines and of every goal that was not met."""
    goals = [goal for program in found.values() for goal in program["goals"]]
    met = sum(goal["met"] is True for goal in goals)
    shown = [g for g in goals if g["what"] in HEADLINES or g["met"] is not True]
    return [*_table(shown), "", f"{met} of {len(goals)} goals were met."]


def _table(goals: Sequence[Found]) -> list[str]:
    lines = ["| what | goal | reached: median (quartiles) | |", "|---|---|---|---|"]
    for what, goal, value, met in (one.values() for one in goals):
        lines.append(f"| {what} | {goal} | {value} | {_WORDS[met]} |")
    return lines


def _machine(found: Mapping[str, Found]) -> list[str]:
    """The machine of the first program; when each ran, where it was not the same."""
    machines = [program["machine"] for program in found.values()]
    shown = {k: v for k, v in machines[0].items() if k not in ("load", "at")}
    times = sorted(machine["at"] for machine in machines)
    loads = [machine["load"].split()[0] for machine in machines]
    took = (
        f"Taken from {times[0]} to {times[-1]}; the load of a minute at the end of each"
        f" program: {', '.join(loads)}."
    )
    return ["; ".join(f"{name} {value}" for name, value in shown.items()) + ".", took]


def _absent(found: Mapping[str, Found]) -> list[str]:
    reasons = {
        f"- {rival}: {why}"
        for program in found.values()
        for rival, why in program["missing"].items()
    }
    return ["Not measured here:", "", *sorted(reasons), ""] if reasons else []
