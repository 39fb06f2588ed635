"""A software bill of materials in CycloneDX's JSON: what a wheel carries and needs.

A wheel carries one foreign file, the library that draws candles. What it needs are
ranges of versions, so a required package has a range here and no version.
"""

import hashlib
import json
import re
import tomllib
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

_NAME = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*])?\s*([^;]*)")
_CONSTANT = re.compile(r'^(VERSION|SHA256) = "([^"]+)"', re.MULTILINE)
Json = dict[str, object]


def write(path: Path, tree: Path, files: list[Path], epoch: int) -> None:
    """Write the bill of these files, which were built from a tree."""
    project = tomllib.loads((tree / "pyproject.toml").read_text())["project"]
    version = files[0].name.split("-")[1].removesuffix(".tar.gz")
    subject: Json = {
        "type": "library",
        "bom-ref": "shmfeed",
        "name": "shmfeed",
        "version": version,
        "description": project["description"],
        "licenses": [{"expression": project["license"]}],
        "purl": f"pkg:pypi/shmfeed@{version}",
        "components": [_archive(one) for one in files],
    }
    parts = [_charts(tree), *_requirements(project)]
    bill: Json = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, repr(subject))}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(epoch, UTC).isoformat(),
            "component": subject,
        },
        "components": parts,
        "dependencies": [
            {"ref": "shmfeed", "dependsOn": [str(one["bom-ref"]) for one in parts]}
        ],
    }
    path.write_text(json.dumps(bill, indent=2) + "\n")


def _archive(path: Path) -> Json:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {
        "type": "file",
        "bom-ref": path.name,
        "name": path.name,
        "hashes": [{"alg": "SHA-256", "content": digest}],
    }


def _charts(tree: Path) -> Json:
    source = (tree / "shmfeed/observe/charts/__init__.py").read_text()
    facts = dict(_CONSTANT.findall(source))
    return {
        "type": "library",
        "bom-ref": "lightweight-charts",
        "name": "lightweight-charts",
        "version": facts["VERSION"],
        "scope": "required",
        "hashes": [{"alg": "SHA-256", "content": facts["SHA256"]}],
        "licenses": [{"license": {"id": "Apache-2.0"}}],
        "purl": f"pkg:npm/lightweight-charts@{facts['VERSION']}",
    }


def _requirements(project: dict[str, object]) -> Iterator[Json]:
    """Yield each package that users need, with the range that is accepted."""
    extras = project["optional-dependencies"]
    offered = [name for name in extras if name not in ("bench", "dev", "docs", "fuzz")]
    groups = {"": project["dependencies"]} | {name: extras[name] for name in offered}
    ranges: dict[str, tuple[str, set[str]]] = {}
    for group, lines in groups.items():
        for line in lines:
            name, accepted = _NAME.match(line).groups()
            if name != "shmfeed":
                ranges.setdefault(name, (accepted.strip(), set()))[1].add(group)
    for name, (accepted, wanted) in sorted(ranges.items()):
        is_required = "" in wanted
        facts = {"versions": accepted}
        if not is_required:
            facts["extras"] = " ".join(sorted(wanted))
        yield {
            "type": "library",
            "bom-ref": name,
            "name": name,
            "scope": "required" if is_required else "optional",
            "purl": f"pkg:pypi/{name.lower()}",
            "properties": [
                {"name": f"shmfeed:{fact}", "value": value}
                for fact, value in facts.items()
            ],
        }
