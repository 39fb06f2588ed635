"""The parts of the relay's world: plan of faults, judges, links."""

import contextlib
import itertools
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import urlsplit

import pytest
from relay.epochs import EpochCheck
from relay.faults import AT_ONCE, KINDS, plan
from relay.host_process import HostProcess
from relay.stage import HISTORY, SEED
from soak.truth import SECOND
from support import loopback
from support.link_proxy import CUT, PASS, SLOW, SLOW_SECONDS, STALL, LinkProxy

from shmfeed.simulator import bar
from shmfeed.writer import create

BEGIN = 1_700_000_000_000
SYMBOL = "S00USDT"


def test_a_plan_follows_from_its_seed_and_troubles_a_target_once_at_a_time() -> None:
    planned = plan(300, 1)
    assert planned == plan(300, 1) != plan(300, 2)
    assert {one.kind for one in planned} == set(KINDS)
    assert [one.begin for one in planned] == sorted(one.begin for one in planned)
    targets = {one.target for one in planned}
    assert targets == {"a", "b", "c", "redis", "link a", "link b", "link c"}
    for target in targets:
        of_target = [one for one in planned if one.target == target]
        assert all(a.end <= b.begin for a, b in itertools.pairwise(of_target))
    assert all((one.end == one.begin) == (one.kind in AT_ONCE) for one in planned)


# The judges, each with a case that must fail


def test_a_new_leader_begins_its_own_sequence() -> None:
    check = EpochCheck()
    for epoch, sequence in ((5, 1), (5, 2), (9, 1), (9, 2), (12, 7)):
        check.take(epoch, sequence)
    assert check.epochs == [5, 9, 12]
    assert check.violations == []


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        (((5, 1), (9, 1), (5, 2)), "a flush of epoch 5 after one of 9"),
        (((5, 1), (5, 2), (5, 2)), "flush 2 after flush 2 of epoch 5"),
    ],
)
def test_an_older_leaders_flush_and_a_doubled_one_are_found(entries, told) -> None:
    check = EpochCheck()
    for epoch, sequence in entries:
        check.take(epoch, sequence)
    assert check.violations == [told]


@pytest.fixture
def judge(feed_name, tmp_path, request) -> Iterator[Callable[..., HostProcess]]:
    """Return a factory: a host whose ring has these bars of one symbol."""
    with contextlib.ExitStack() as end:

        def make(numbers: Iterable[int], wrong: int | None = None) -> HostProcess:
            writer = end.enter_context(create(feed_name, history=HISTORY))
            end.callback(writer.close, unlink=True)
            ring = writer.add_stream(SYMBOL, "1s")
            for number in numbers:
                made = bar(SEED, SYMBOL, "1s", BEGIN + number * SECOND)
                low = made.low - 0.01 * (number == wrong)
                ring.append(made.open_time, made.open, made.high, low, *made[5:8])
            host = HostProcess(feed_name, [SYMBOL], SEED, "", HISTORY, str(tmp_path))
            end.callback(host.close)
            return host

        yield make
    request.node.funcargs.clear()  # pytest would keep the mapping


def test_a_host_with_the_venues_rows_has_no_differences(judge) -> None:
    host = judge(range(50))
    assert host.wrong() == []
    assert host.differences(BEGIN + 50 * SECOND) == []
    assert host.count(BEGIN + 50 * SECOND) == 50


def test_a_wrong_row_of_a_host_is_found(judge) -> None:
    told = [f"{SYMBOL}: the row of {BEGIN + 7 * SECOND} is wrong"]
    host = judge(range(50), wrong=7)
    assert host.wrong() == told
    assert host.differences(BEGIN + 50 * SECOND) == told


def test_a_row_that_a_host_lacks_is_found(judge) -> None:
    host = judge([*range(7), *range(8, 49)])
    assert host.wrong() == []
    assert host.differences(BEGIN + 50 * SECOND) == [
        f"{SYMBOL}: the row of {BEGIN + number * SECOND} is missing"
        for number in (7, 49)
    ]


class TestLinkProxy:
    @pytest.fixture
    def link(self) -> Iterator[LinkProxy]:
        def echo(client: socket.socket) -> None:
            while data := client.recv(100):
                client.sendall(data)

        with loopback.raw(echo) as url:
            with LinkProxy(urlsplit(url).port or 0) as link:
                yield link

    @pytest.fixture
    def client(self, link) -> Iterator[socket.socket]:
        with connected(link) as client:
            client.sendall(b"begins")
            assert client.recv(100) == b"begins"
            yield client

    def test_a_slow_link_delays_both_directions(self, link, client) -> None:
        link.set(SLOW)
        began = time.monotonic()
        client.sendall(b"a")
        assert client.recv(100) == b"a"
        assert time.monotonic() - began > SLOW_SECONDS

    def test_a_stalled_link_keeps_what_it_has_not_passed_on(self, link, client) -> None:
        link.set(STALL)
        client.sendall(b"a")
        client.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.recv(100)
        link.set(PASS)
        client.settimeout(10)
        assert client.recv(100) == b"a"

    def test_a_cut_link_ends_connections_and_takes_none(self, link, client) -> None:
        link.set(CUT)
        assert ended(client)
        with connected(link) as other:
            assert ended(other)
        link.set(PASS)
        with connected(link) as other:
            other.sendall(b"a")
            assert other.recv(100) == b"a"


def connected(link: LinkProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", link.port), timeout=10)


def ended(client: socket.socket) -> bool:
    try:
        return client.recv(100) == b""
    except ConnectionError:
        return True
