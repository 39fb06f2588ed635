"""Alert rules and the dashboard ask for metrics that exist, by labels they have."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from shmfeed.health import HEALTHS
from shmfeed.layout import STATES
from shmfeed.memory.histogram import BUCKETS, VENUE
from shmfeed.observe.exposition import Exposition
from shmfeed.observe.sample import Sampler
from shmfeed.writer import create

ROOT = Path(__file__).parents[3]
RULES = ROOT / "deploy/prometheus/alerts.yml"
DASHBOARD = ROOT / "deploy/grafana/dashboard.json"
PAGE = ROOT / "docs/metrics.md"
# Labels that Prometheus itself adds.
ADDED = {"job", "instance"}
NAME = re.compile(r"\bshmfeed_\w+")
RELAY = {"role": "leader", "leader": "here:1", "epoch": 2, "since": 3}
RELAY |= {"lag": 0.0, "behind": 0, "error": ""}


@pytest.fixture(scope="module")
def labels() -> dict[str, set[str]]:
    """Return the labels of each metric of a feed with all figures."""
    name = f"t{os.getpid()}-deployed"
    with create(name, history=5, streams=[("A", "1m")]) as writer, Sampler([name]) as s:
        writer.add_stream("A", "1m").append(60_000, 1.0, 1.0, 1.0, 1.0, 1.0)
        writer.set_clock_offset(1.0)
        writer.note({"attempts": 0})
        writer.set_text("relay", RELAY)
        writer.count_latencies(VENUE, [1] * BUCKETS, 1)
        text = Exposition(s).text().decode()
        writer.close(unlink=True)
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def faults(expression: str, labels: dict[str, set[str]]) -> list[str]:
    """Return the metrics that do not exist, and the labels that they lack."""
    named = set(NAME.findall(expression))
    found = sorted(named - labels.keys())
    for name, matchers in re.findall(r"(shmfeed_\w+)\{(.*?)\}", expression):
        used = set(re.findall(r"(\w+)\s*(?:=|!=|=~|!~)\s*\"", matchers))
        found += [f"{name}: {one}" for one in sorted(used - labels.get(name, set()))]
    grouped = {
        one
        for names in re.findall(r"\b(?:by|on) \((.*?)\)", expression)
        for one in names.split(", ")
    }
    known = ADDED.union(*(labels.get(name, set()) for name in named))
    return found + sorted(grouped - known)


def rules() -> list[dict[str, Any]]:
    [group] = yaml.safe_load(RULES.read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def dashboard_expressions() -> Iterator[str]:
    board = json.loads(DASHBOARD.read_text())
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"].replace("label_values", "")


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("shmfeed_feed_up == 0", []),
        ("shmfeed_feed_down == 0", ["shmfeed_feed_down"]),
        ('shmfeed_streams{healthy="x"} > 0', ["shmfeed_streams: healthy"]),
        ("sum by (feed, symbol) (shmfeed_streams)", ["symbol"]),
        ("sum by (job, health) (shmfeed_streams)", []),
    ],
)
def test_faults_are_found(
    labels: dict[str, set[str]], expression: str, fault: list[str]
) -> None:
    assert faults(expression, labels) == fault


def test_the_rules_ask_for_metrics_that_exist(labels: dict[str, set[str]]) -> None:
    found = rules()
    assert len({rule["alert"] for rule in found}) == len(found) > 5
    assert not [fault for rule in found for fault in faults(rule["expr"], labels)]
    for rule in found:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"].keys() == {"summary", "description"}


def test_states_and_healths_of_the_rules_exist() -> None:
    text = RULES.read_text()
    assert set(re.findall(r'shmfeed_feed_state="(\w+)"', text)) <= {*STATES}
    assert set(re.findall(r'shmfeed_feed_health="(\w+)"', text)) <= {*HEALTHS}


def test_each_rule_has_a_test_and_a_row_of_the_page() -> None:
    names = {rule["alert"] for rule in rules()}
    tests = (RULES.parent / "alerts_test.yml").read_text()
    assert set(re.findall(r"alertname: (\w+)", tests)) == names
    assert set(re.findall(r'alertname="(\w+)"', tests)) == names
    assert (
        set(re.findall(r"^\| `(Shmfeed\w+)` \|", PAGE.read_text(), re.MULTILINE))
        == names
    )


def test_the_dashboard_asks_for_metrics_that_exist(
    labels: dict[str, set[str]],
) -> None:
    found = [*dashboard_expressions()]
    assert len(found) > 10
    assert not [fault for one in found for fault in faults(one, labels)]


def test_the_panels_of_the_dashboard_have_a_place_and_a_data_source() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
        for one in (panel, *panel.get("targets", ())):
            assert panel["type"] == "row" or one["datasource"]["uid"] == "${datasource}"


def test_the_page_lists_the_metrics(labels: dict[str, set[str]]) -> None:
    listed = set(re.findall(r"^\| `(shmfeed_\w+)` \|", PAGE.read_text(), re.MULTILINE))
    parts = re.compile(r"_(bucket|sum|count)$")
    assert listed == {parts.sub("", name) for name in labels}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool: not installed")
@pytest.mark.parametrize(
    "arguments",
    [
        "check rules alerts.yml",
        "test rules alerts_test.yml",
        "check config prometheus.yml",
    ],
)
def test_promtool_accepts_them(arguments: str) -> None:
    done = subprocess.run(
        ["promtool", *arguments.split()],
        cwd=RULES.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
