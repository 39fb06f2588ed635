"""Recorded traffic of venues, which is not part of the project."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

_DEFAULT = Path(__file__).resolve().parents[3] / "shared" / "data"


def recording(name: str) -> Path:
    """Return the recording's path, or skip the test without it."""
    folder = Path(os.environ.get("SHMFEED_TEST_DATA", _DEFAULT))
    path = folder / name
    if not path.is_file():
        pytest.skip(f"no recording {path}; SHMFEED_TEST_DATA names their folder")
    return path


def frames(path: Path) -> list[dict[str, Any]]:
    """Return the recorded frames, decoded, in order."""
    lines = path.read_text().splitlines()[1:]
    return [json.loads(line.partition(": ")[2]) for line in lines if line]


def klines(path: Path) -> list[dict[str, Any]]:
    """Return the kline payloads of a recording."""
    payloads = [frame.get("data", frame) for frame in frames(path)]
    return [payload["k"] for payload in payloads if payload.get("e") == "kline"]
