"""The identity in a segment, and the rule that never mixes the rows of two."""

import os
from typing import Any

import pytest
from conftest import Child
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.layouts import old_feed

import shmfeed
from shmfeed.errors import BadArgumentError, FeedBusyError
from shmfeed.identity import FeedIdentity, make_identity
from shmfeed.layout import H_IDENTITY, H_NOTE, IDENTITY_WORDS, NOTE_WORDS, WORD
from shmfeed.memory.identity import read_identity
from shmfeed.memory.note import pack_note
from shmfeed.memory.words import Latch
from shmfeed.segment.identity import name_identities, stored_identity
from shmfeed.segment.mapping import open_segment, place
from shmfeed.writer import FeedWriter, create

A = make_identity("binance", "spot", ["a.com", "mirror.com"])
ALSO_A = make_identity("binance", "spot", ["mirror.com", "c.com"])
B = make_identity("binance", "usdm", ["b.com"])
STREAM = ("BTCUSDT", "1h")
HOUR = 3_600_000


def write(name: str, identity: FeedIdentity | None, **more: Any) -> FeedWriter:
    return create(name, 10, 16, 4, streams=[STREAM], identity=identity, **more)


def leave_bars(name: str, identity: FeedIdentity | None, count: int = 3) -> None:
    with write(name, identity) as writer:
        ring = writer.add_stream(*STREAM)
        for number in range(count):
            ring.append(HOUR * number, 1, 2, 1, 2, 5)


def closes(name: str) -> int:
    with shmfeed.attach(name) as feed:
        return len(feed.ring(*STREAM).view(10))


def test_a_new_segment_names_its_identity(feed_name: str) -> None:
    with write(feed_name, A), shmfeed.attach(feed_name) as feed:
        found = feed.status()
        assert found["identity"] == "binance/spot/a.com,mirror.com"
        assert found["venue"] == "a.com,mirror.com"
        assert (found["protocol"], found["market_type"]) == ("binance", "spot")


def test_bars_of_another_identity_are_refused_and_stay(feed_name: str) -> None:
    leave_bars(feed_name, A)
    before = place(feed_name).segment.read_bytes()
    with pytest.raises(BadArgumentError) as caught:
        write(feed_name, B)
    assert str(A) in str(caught.value)
    assert str(B) in str(caught.value)
    assert place(feed_name).segment.read_bytes() == before
    with write(feed_name, A):  # no lock is held
        assert closes(feed_name) == 3


def test_without_the_rule_two_identities_are_mixed(feed_name: str) -> None:
    """Control: the tests of the rule can see it."""
    leave_bars(feed_name, A)
    with create(feed_name, 10, 16, 4) as writer:  # of B, and it does not say so
        writer.add_stream(*STREAM).append(HOUR * 3, 9, 9, 9, 9, 9)
        assert closes(feed_name) == 4


@pytest.mark.parametrize("history", [10, 20])  # the same geometry, and another
def test_replace_drops_them(feed_name: str, history: int) -> None:
    leave_bars(feed_name, A)
    with shmfeed.attach(feed_name) as feed:
        ring = feed.ring(*STREAM)
        held = ring.view(10)
        epoch = ring.epoch
        more = {"streams": [STREAM], "identity": B, "replace": True}
        with create(feed_name, history, 16, 4, **more) as writer:
            assert feed.status()["identity"] == str(B)
            assert len(ring.view(10)) == 0
            assert ring.epoch != epoch
            assert feed.status()["bars"] == 0
            writer.add_stream(*STREAM).append(0, 7, 7, 7, 7, 7)
            assert ring.view(10)["close"].tolist() == [7]
        assert len(held["close"]) == 3  # the old slice keeps its rows


@pytest.mark.parametrize("stored", [A, ALSO_A, None])
def test_replace_keeps_bars_of_the_same_identity_or_of_none(
    feed_name: str, stored: FeedIdentity | None
) -> None:
    leave_bars(feed_name, stored)
    with write(feed_name, A, replace=True):
        assert closes(feed_name) == 3
        assert stored_identity(place(feed_name)) == A


def test_the_hosts_are_those_of_the_last_feeder(feed_name: str) -> None:
    leave_bars(feed_name, A)
    with write(feed_name, ALSO_A):
        assert closes(feed_name) == 3
        assert stored_identity(place(feed_name)) == ALSO_A


def test_a_segment_without_bars_changes_its_identity(feed_name: str) -> None:
    with write(feed_name, A) as writer:
        writer.add_stream(*STREAM).update_forming(0, 1, 2, 1, 2, 5)
    with write(feed_name, B), shmfeed.attach(feed_name) as feed:
        assert stored_identity(place(feed_name)) == B
        assert feed.ring(*STREAM).forming() is None  # it was the other venue's


@pytest.mark.parametrize("history", [10, 20])
def test_create_without_an_identity_keeps_it(feed_name: str, history: int) -> None:
    leave_bars(feed_name, A)
    with create(feed_name, history, 16, 4):
        assert stored_identity(place(feed_name)) == A
        assert closes(feed_name) == 3


@pytest.mark.parametrize(
    ("note", "identity", "taken"),
    [
        ({"protocol": "binance", "market_type": "binance-spot"}, A, True),
        (
            {
                "protocol": "binance",
                "market_type": "spot",
                "endpoint": "wss://a.com:9443/ws?key=1",
            },
            A,
            True,
        ),
        (
            {"protocol": "binance", "market_type": "spot", "endpoint": "wss://x"},
            A,
            False,
        ),
        ({"protocol": "binance", "market_type": "usdm"}, A, False),
        ({"protocol": "wealthai", "market_type": "spot"}, A, False),
        ({"protocol": 7, "market_type": "spot"}, A, True),
        ({"protocol": "binance", "market_type": "spot", "endpoint": "//["}, A, True),
        ({"last_error": "refused"}, A, True),
    ],
)
def test_an_earlier_feeders_note_serves(
    feed_name: str, note: dict[str, object], identity: FeedIdentity, taken: bool
) -> None:
    with write(feed_name, None) as writer:
        writer.add_stream(*STREAM).append(0, 1, 2, 1, 2, 5)
        writer.note(note)
    if taken:
        write(feed_name, identity).close()
    else:
        with pytest.raises(BadArgumentError, match="holds bars of"):
            write(feed_name, identity)


def test_a_segment_of_layout_1_has_the_identity_of_its_note(feed_name: str) -> None:
    with old_feed(feed_name) as old:
        old.add(*STREAM).append(0, 1, 2, 1, 2, 5)
        assert stored_identity(place(feed_name)) is None
    write(feed_name, A).close()


def test_the_identity_of_layout_1_is_carried_over(feed_name: str) -> None:
    noted = {"protocol": "binance", "market_type": "spot", "endpoint": "wss://a.com/"}
    with old_feed(feed_name) as old:
        old.add(*STREAM).append(0, 1, 2, 1, 2, 5)
        Latch(old.words, H_NOTE, NOTE_WORDS).write(pack_note(noted))
    with pytest.raises(BadArgumentError, match=r"holds bars of binance/spot/a\.com"):
        write(feed_name, B)
    with create(feed_name, 10, 16, 4):  # in the present layout
        assert str(stored_identity(place(feed_name))) == "binance/spot/a.com"
    with write(feed_name, A):
        assert closes(feed_name) == 1


@pytest.mark.parametrize("value", [b"\xff", b"a/b", b"", b"\0"])
def test_a_damaged_identity_is_none(feed_name: str, value: bytes) -> None:
    with write(feed_name, A) as writer:
        words, geometry = writer._words, writer.geometry
        for cell in (0, 1):
            start = (H_IDENTITY + 1 + cell * IDENTITY_WORDS) * WORD
            words.raw[start + WORD : start + WORD + 4] = value.ljust(4, b"\0")
            words.ints[start // WORD] = len(value)
        assert read_identity(words, geometry) is None
        words.ints[start // WORD] = words.ints[start // WORD - IDENTITY_WORDS] = 1 << 60
        assert read_identity(words, geometry) is None


def test_a_very_long_identity_keeps_the_venues_that_fit(feed_name: str) -> None:
    hosts = [f"{number:03}.{'x' * 60}.{'y' * 60}.example.com" for number in range(50)]
    identity = make_identity("wealthai", "m" * 64, hosts)
    leave_bars(feed_name, identity)
    write(feed_name, identity).close()
    words, geometry, _ = open_segment(place(feed_name))
    found = read_identity(words, geometry)
    assert found is not None
    assert found.venues == tuple(hosts[:3])
    assert found.matches(identity)


def test_a_running_writer_of_another_identity_is_named(feed_name: str) -> None:
    with write(feed_name, A), pytest.raises(FeedBusyError) as caught:
        write(feed_name, B)
    with write(feed_name, A):
        error = name_identities(caught.value, feed_name, B)
        assert error.pid == os.getpid()
        assert f"{A}, and these settings are of {B}" in str(error)
        for same in (A, ALSO_A):
            assert name_identities(caught.value, feed_name, same) is caught.value


TAKE = """
import sys
from shmfeed.errors import FeedBusyError
from shmfeed.identity import parse_identity
from shmfeed.segment.identity import name_identities
from shmfeed.writer import create

name, identity = sys.argv[1], parse_identity(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
try:
    with create(name, 10, 16, 4, streams=[("BTCUSDT", "1h")], identity=identity):
        print("won", flush=True)
        sys.stdin.readline()
except FeedBusyError as error:
    print(name_identities(error, name, identity), flush=True)
"""


def test_of_two_first_writers_one_wins_and_the_other_names_both(
    feed_name: str, child: Child
) -> None:
    workers = {one: child(TAKE, feed_name, str(one)) for one in (A, B)}
    for worker in workers.values():
        assert worker.stdout.readline() == "ready\n"
    for worker in workers.values():
        worker.stdin.write("go\n")
        worker.stdin.flush()
    told = {one: worker.stdout.readline() for one, worker in workers.items()}
    (winner,) = [one for one, line in told.items() if line == "won\n"]
    (loser,) = told.keys() - {winner}
    assert f"{winner}, and these settings are of {loser}" in told[loser]
    assert stored_identity(place(feed_name)) == winner
    for worker in workers.values():
        worker.communicate("end\n")


CODES = {None: 0.0, A: 1.0, ALSO_A: 1.0, B: 2.0}
starts = st.tuples(
    st.sampled_from([*CODES]),
    st.booleans(),  # replace
    st.sampled_from([10, 20]),  # history: another geometry recreates the segment
    st.integers(0, 2),  # bars
)


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
)
@given(st.lists(starts, max_size=8))
def test_no_order_of_starts_mixes_two_identities(feed_name: str, plan: list) -> None:
    stored, rows, number = None, 0, 0
    for identity, replace, history, count in plan:
        differs = bool(stored and identity and not stored.matches(identity))
        more = {"streams": [STREAM], "identity": identity, "replace": replace}
        if differs and rows and not replace:
            with pytest.raises(BadArgumentError, match="holds bars of"):
                create(feed_name, history, 16, 4, **more)
            continue
        rows = 0 if differs else min(rows, history)
        stored = identity or stored
        with create(feed_name, history, 16, 4, **more) as writer:
            ring = writer.add_stream(*STREAM)
            for _ in range(count):
                number, rows = number + 1, min(rows + 1, history)
                ring.append(HOUR * number, *[CODES[identity]] * 5)
            with shmfeed.attach(feed_name) as feed:
                found = feed.ring(*STREAM).view(history)["close"].tolist()
                assert len(found) == rows
                assert set(found) <= {CODES[None], CODES[stored]}
                assert feed.status()["identity"] == (str(stored) if stored else None)
    create(feed_name, 10, 16, 4).close(unlink=True)
