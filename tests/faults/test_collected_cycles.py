"""Rings and slices in reference cycles are collected, on either core, without harm."""

import pytest
from conftest import Child

import shmfeed

CYCLES = """
import gc, sys, shmfeed

def make_cycle(kept):
    feed = shmfeed.attach(sys.argv[1])
    ring = feed.ring("A", "1s")
    rows = ring.view(3)
    values = rows["close"] if kept in ("both", "array") else None
    box = {"none": [rows], "both": [rows, values], "slice": [], "array": [rows]}[kept]
    box += [feed, ring, box]
    return {"slice": rows, "array": values}.get(kept)

gc.disable()
for kept in ("none", "both", "slice", "array"):
    alive = make_cycle(kept)
    gc.collect()
    if kept == "slice":
        alive = alive["close"]
    print(*([] if alive is None else alive), flush=True)
"""


@pytest.mark.parametrize("pure", ["", "1"])
def test_cycles_that_hold_rings_slices_and_arrays(
    feed_name: str, child: Child, monkeypatch: pytest.MonkeyPatch, pure: str
) -> None:
    monkeypatch.setenv("SHMFEED_PURE", pure)
    with shmfeed.create(feed_name, history=20, max_streams=1) as writer:
        ring = writer.add_stream("A", "1s")
        for number in range(1, 4):
            ring.append(number * 1000, number, number, number, number, number)
        process = child(CYCLES, feed_name)
        output, errors = process.communicate(timeout=30)
        writer.close(unlink=True)
    rows = "1.0 2.0 3.0\n"
    assert (process.returncode, output, errors) == (0, f"\n\n{rows}{rows}", "")
