"""The doctor asks each Redis of the settings, and says what to change."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.redis_server import RedisServer, free_port, running

from shmfeed.doctor.feeds import check_identity
from shmfeed.doctor.finding import NOTE, OK, PROBLEM, Finding
from shmfeed.doctor.history import check_history
from shmfeed.doctor.relay import check_relay
from shmfeed.settings.loading import load

PASSWORD = "hunter2hunter2"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with running(tmp_path, "--requirepass", PASSWORD) as server:
        yield server


def findings(port: int, password: str = PASSWORD, **more: object) -> list[Finding]:
    given = {"publish_to": f"redis://127.0.0.1:{port}/0", "redis_password": password}
    return list(check_relay(load({**given, **more}, {})))


def test_a_server_that_serves(server: RedisServer) -> None:
    (found,) = findings(server.port)
    assert found.check == f"redis://127.0.0.1:{server.port}/0"
    assert (found.level, found.remedy) == (OK, None)
    assert found.found.split()[0] in ("Redis", "Valkey")
    assert int(found.found.split()[1].split(".")[0]) >= 6
    # A follower's is asked too.
    given = {"protocol": "redis", "endpoint": found.check, "redis_password": PASSWORD}
    settings = load(given, {})
    assert [one.found for one in check_relay(settings)] == [found.found]
    assert [one.level for one in check_history(settings)] == [OK]
    assert "it is the leader's" in next(iter(check_identity(settings))).found


def test_an_eviction_policy_that_deletes_rings(server: RedisServer) -> None:
    server.do("CONFIG", "SET", "maxmemory-policy", "allkeys-lru", password=PASSWORD)
    served, warned = findings(server.port)
    assert (served.level, warned.level) == (OK, NOTE)
    assert "maxmemory-policy allkeys-lru" in warned.found
    assert warned.remedy == "CONFIG SET maxmemory-policy noeviction"


@pytest.mark.parametrize(("password", "words"), [("x", "password"), ("", "password")])
def test_a_password_that_is_refused(server: RedisServer, password, words) -> None:
    (found,) = findings(server.port, password)
    assert found.level == PROBLEM
    assert words in found.found
    assert PASSWORD not in str(found)


def test_one_that_does_not_answer() -> None:
    (found,) = findings(free_port())
    assert found.level == PROBLEM
    assert "connection refused" in found.found.lower()
    assert found.remedy == "start it, or correct the address"


def test_nothing_is_asked_without_such_a_setting() -> None:
    assert list(check_relay(load({"endpoint": "ws://localhost:1"}, {}))) == []
