"""A server that is away, ill, full, old, foreign or forbidding: errors in words."""

import socket
import ssl
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.authority import Authority
from support.forks import wait_until
from support.loopback import raw
from support.redis_engines import Engines, key
from support.redis_server import (
    HOST,
    PATIENCE_SECONDS,
    RedisServer,
    free_port,
    running,
)
from support.relay_flushes import MINUTES, join, rows, whole

from shmfeed.relay import redis_connection, redis_leader
from shmfeed.relay.engine import (
    EngineAwayError,
    EngineRefusedError,
    Entry,
    FencedError,
    Member,
    MustJoinError,
    Position,
    Request,
)
from shmfeed.relay.flush import Catalog, Flush
from shmfeed.relay.redis_connection import RedisTarget
from shmfeed.relay.redis_engine import RedisEngine
from shmfeed.relay.redis_errors import explain

ROWS = rows((0, 5, 1.0))
WRONG = "Passw0rd-that-is-wrong"


def all_data(server: RedisServer) -> dict[str, Any]:
    return {name: server.do("DUMP", name) for name in server.all_keys()}


class TestTheWayThere:
    def error(self, target: RedisTarget, kind: type[Exception]) -> str:
        engine = RedisEngine("f", target)
        with pytest.raises(kind) as caught:
            engine.join()
        with pytest.raises(kind):
            engine.lead("host:1", 5)
        engine.close()
        assert WRONG not in str(caught.value)
        return str(caught.value)

    def test_no_server(self) -> None:
        port = free_port()
        text = self.error(RedisTarget(HOST, port), EngineAwayError)
        assert text == f"Redis {HOST}:{port}/0: connection refused"

    def test_no_such_host(self) -> None:
        text = self.error(RedisTarget("no.such.host.invalid"), EngineAwayError)
        assert "Redis no.such.host.invalid:6379/0: no such host" in text

    def test_a_silent_server(
        self, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(redis_connection, "REPLY_SECONDS", 0.2)
        redis_server.pause()
        text = self.error(redis_server.target, EngineAwayError)
        assert "gave no answer in time" in text

    @pytest.mark.parametrize(
        ("said", "kind", "match"),
        [
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", EngineRefusedError, "does not speak"),
            (b"$19\r\nredis_version:5.0.7\r\n", EngineRefusedError, "5.0.7"),
            (b"", EngineAwayError, "closed"),
            (b"-LOADING Redis is loading\r\n", EngineAwayError, "loading its data"),
            (b"-ERR max number of clients reached\r\n", EngineAwayError, "max number"),
            (
                b"-DENIED Redis is running in protected mode\r\n",
                EngineRefusedError,
                "pro",
            ),
        ],
    )
    def test_answers_at_once(
        self, said: bytes, kind: type[Exception], match: str
    ) -> None:
        def handle(peer: socket.socket) -> None:
            while peer.recv(1000) and said:
                peer.sendall(said)

        with raw(handle) as url:
            port = int(url.rpartition(":")[2].partition("/")[0])
            assert match in self.error(RedisTarget(HOST, port), kind)

    def test_a_node_of_a_cluster_that_has_other_keys(self, engines: Engines) -> None:
        moved = b"-MOVED 1 %s:%d\r\n" % (HOST.encode(), engines.server.port)

        def handle(peer: socket.socket) -> None:
            while said := peer.recv(10_000):
                is_info = b"INFO" in said
                peer.sendall(b"$19\r\nredis_version:7.0.0\r\n" if is_info else moved)

        with raw(handle) as url:
            engine = engines.make(port=int(url.rpartition(":")[2].partition("/")[0]))
            assert engine.lead("host:1", 5)
            engine.flush(whole(ROWS))
            engine.close()
            engine.flush(whole(ROWS))  # asks the first node again
            engine.close()
        assert join(engines.make())[1] == {0: {5: 1.0}}

    def test_a_cluster(self, tmp_path: Path) -> None:
        """All keys of a feed lie on one node, as each script needs them."""
        options = ("--cluster-enabled", "yes", "--cluster-port", free_port())
        with (
            running(tmp_path, *options) as server,
            closing(Engines(server)) as engines,
        ):
            leader = engines.make()
            with pytest.raises(
                EngineAwayError, match=r"cluster is down|slot not served"
            ):
                leader.lead("host:1", 5)
            with pytest.raises(EngineRefusedError, match="database 0 alone"):
                engines.make(db=1).join()
            server.do("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            wait_until(
                lambda: b"cluster_state:ok" in server.do("CLUSTER", "INFO"),
                PATIENCE_SECONDS,
                "the cluster",
            )
            assert leader.lead("host:1", 5)
            leader.flush(whole(ROWS))
            _, held = join(engines.make())
            assert held == {0: {5: 1.0}}
            leader.flush(whole(ROWS, MINUTES[:1]))
            leader.requests()

    def test_a_password_is_asked_for(self, redis_server: RedisServer) -> None:
        redis_server.do("CONFIG", "SET", "requirepass", "right")
        target = redis_server.target
        text = self.error(target, EngineRefusedError)
        assert "SHMFEED_REDIS_PASSWORD" in text
        text = self.error(target._replace(password=WRONG), EngineRefusedError)
        assert "refuses the password" in text
        text = self.error(target._replace(user="u", password=WRONG), EngineRefusedError)
        assert "the user does not exist" in text
        engine = RedisEngine("f", target._replace(password="right"))
        assert engine.lead("host:1", 5)
        engine.close()

    def test_a_password_that_is_not_asked_for(self, redis_server: RedisServer) -> None:
        target = redis_server.target._replace(password=WRONG)
        assert "unset SHMFEED_REDIS_PASSWORD" in self.error(target, EngineRefusedError)

    @pytest.mark.parametrize("user", ["", "u"])
    def test_a_server_that_repeats_the_password(self, user: str) -> None:
        said = f"-ERR unknown command 'AUTH', with args beginning with: '{WRONG}'\r\n"

        def handle(peer: socket.socket) -> None:
            while peer.recv(1000):
                peer.sendall(said.encode())

        with raw(handle) as url:
            port = int(url.rpartition(":")[2].partition("/")[0])
            target = RedisTarget(HOST, port, user=user, password=WRONG)
            assert "it lacks a command" in self.error(target, EngineRefusedError)
            with pytest.raises(EngineRefusedError) as caught:
                RedisEngine("f", target).join()
            assert WRONG not in "".join(traceback.format_exception(caught.value))

    def test_a_wrong_database(self, engines: Engines) -> None:
        target = engines.server.target._replace(db=99)
        assert "no database of this number" in self.error(target, EngineRefusedError)
        engines.leader()
        with pytest.raises(EngineAwayError, match="no leader has published"):
            engines.make(db=1).join()
        assert join(engines.make(db=0))

    def test_tls(
        self, tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with running(tmp_path, authority=authority) as server:
            context = ssl.create_default_context(cafile=str(authority.file))
            for host in (HOST, "localhost"):
                engine = RedisEngine(
                    "f", RedisTarget(host, server.tls_port, tls=context)
                )
                assert engine.lead("host:1", 5)
                engine.resign()
                engine.close()
            stranger = RedisTarget(
                HOST, server.tls_port, tls=ssl.create_default_context()
            )
            text = self.error(stranger, EngineRefusedError)
            assert "its certificate is refused" in text
            monkeypatch.setattr(redis_connection, "REPLY_SECONDS", 0.2)
            plain = RedisTarget(HOST, server.port, tls=context)
            assert "may be one of plain" in self.error(plain, EngineAwayError)
            self.error(RedisTarget(HOST, server.tls_port), EngineAwayError)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)  # as if it were not installed
    with pytest.raises(EngineRefusedError, match="pip install redis hiredis"):
        RedisEngine("f", RedisTarget(HOST)).join()


def test_a_target_hides_its_password() -> None:
    target = RedisTarget("::1", 1, 2, "user", WRONG)
    assert WRONG not in f"{target} {target!r} {[target]}"
    assert str(target) == "[::1]:1/2"


class TestRights:
    """`relay/test_rights.py` has those that suffice."""

    def user(self, engines: Engines, *rules: str) -> RedisEngine:
        engines.server.do("ACL", "SETUSER", "u", "reset", "on", ">right", *rules)
        return engines.make(user="u", password="right")

    @pytest.mark.parametrize("lacking", ["evalsha", "info", "time", "xadd"])
    def test_one_that_is_lacking_is_named(self, engines: Engines, lacking: str) -> None:
        engine = self.user(engines, "~*", "+@all", f"-{lacking}")
        if lacking == "info":  # needed by none
            assert engine.lead("host:1", 5)
            assert engine.warnings() == []
            return
        with pytest.raises(EngineRefusedError, match="lacks a right") as caught:
            engine.lead("host:1", 5)
            engine.flush(whole())
        assert "'evalsha'" in str(caught.value) or lacking != "evalsha"

    def test_keys_that_are_forbidden(self, engines: Engines) -> None:
        engine = self.user(engines, "~other:*", "+@all")
        with pytest.raises(EngineRefusedError, match="lacks a right"):
            engine.lead("host:1", 5)


class TestLosses:
    def test_a_restart_without_data(self, engines: Engines) -> None:
        leader, follower = engines.leader(), engines.make()
        position = follower.join().position
        engines.server.restart()
        with pytest.raises(EngineAwayError):
            leader.flush(Flush(1, ROWS))
        with pytest.raises(FencedError, match="was emptied"):
            leader.flush(whole(ROWS))
        with pytest.raises(EngineAwayError):
            follower.follow(position, 5)
        with pytest.raises(MustJoinError, match="started again"):
            follower.follow(position, 5)
        with pytest.raises(EngineAwayError, match="no leader has published"):
            follower.join()
        assert leader.lead("host:1", 5)
        leader.flush(whole(ROWS))
        joined, held = join(follower)
        assert held == {0: {5: 1.0}}
        assert joined.position.incarnation != position.incarnation

    def test_a_restart_with_data(self, engines: Engines) -> None:
        leader, follower = engines.leader(), engines.make()
        position = follower.join().position
        engines.server.restart(keeps=True)
        with pytest.raises(EngineAwayError):
            follower.follow(position, 5)
        with pytest.raises(MustJoinError, match="started again"):
            follower.follow(position, 5)
        with pytest.raises(EngineAwayError, match=r"no leader has published .* since"):
            follower.join()
        with pytest.raises(EngineAwayError):
            leader.flush(Flush(1, ROWS))
        leader.flush(whole(ROWS))
        assert join(follower)[1] == {0: {5: 1.0}}

    def test_flushall(self, engines: Engines) -> None:
        leader, follower = engines.leader(), engines.make()
        position = follower.join().position
        engines.server.do("FLUSHALL")
        with pytest.raises(MustJoinError, match="emptied"):
            follower.follow(position, 0.05)
        with pytest.raises(FencedError, match="was emptied"):
            leader.renew()
        assert leader.lead("host:1", 5)
        leader.flush(whole(ROWS))
        with pytest.raises(MustJoinError, match=r"written again|a leader of epoch"):
            follower.follow(position, 0.05)
        assert join(follower)[1] == {0: {5: 1.0}}

    def test_scripts_are_loaded_again(self, engines: Engines) -> None:
        leader = engines.leader()
        engines.server.do("SCRIPT", "FLUSH")
        leader.flush(Flush(1, ROWS))
        assert join(engines.make())[1] == {0: {5: 1.0}}

    @pytest.mark.parametrize(
        "name", ["head", "catalog", "state", "ring:A:1m", "ring:B:1m"]
    )
    def test_a_vanished_key_is_written_again(self, engines: Engines, name: str) -> None:
        leader, follower = engines.leader(), engines.make()
        engines.server.do("DEL", key(name))
        with pytest.raises((EngineAwayError, MustJoinError), match=f"{name}.*vanished"):
            join(follower)
        with pytest.raises(EngineAwayError, match=f"lost the key .*{name}"):
            leader.flush(Flush(1, ROWS))
        leader.flush(whole(ROWS))
        leader.flush(Flush(1))
        assert join(follower)[1] == {0: {5: 1.0}}

    def test_a_vanished_ring_is_seen_by_the_leader(self, engines: Engines) -> None:
        leader = engines.leader()
        engines.server.do("DEL", key("ring:A:1m"))
        with pytest.raises(EngineAwayError, match=r"lost the key .*ring:A:1m"):
            leader.flush(Flush(1, ROWS))
        assert key("ring:A:1m") not in engines.server.all_keys()

    def test_a_cut_connection(self, engines: Engines) -> None:
        leader, follower = engines.leader(), engines.make()
        joined = follower.join()
        for number in range(3):
            follower.leadership()  # connects
            engines.server.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            leader.flush(Flush(1, rows((0, number, 1.0))))
            with pytest.raises(EngineAwayError):
                follower.follow(joined.position, 5)
        entries = follower.follow(joined.position, 5)
        assert [entry.position.sequence for entry in entries] == [2, 3, 4]

    def test_a_pause(self, engines: Engines) -> None:
        leader, follower = engines.leader(), engines.make()
        position = follower.join().position
        engines.server.pause()
        for engine in (leader, follower):
            connection: Any = engine._connection._connection
            connection._sock.settimeout(0.2)  # nothing can answer
        with pytest.raises(EngineAwayError, match="no answer in time"):
            leader.flush(Flush(1, ROWS))
        with pytest.raises(EngineAwayError, match="no answer in time"):
            follower.follow(position, 0.0)
        engines.server.go_on()
        leader.flush(whole(ROWS))
        with pytest.raises(MustJoinError):
            follow_all(follower, position)
        assert join(follower)[1] == {0: {5: 1.0}}


def follow_all(follower: RedisEngine, position: Position) -> list[Entry]:
    entries: list[Entry] = []
    while found := follower.follow(position, 0.2):
        entries += found
        position = found[-1].position
    return entries


class TestRefusals:
    def test_a_full_memory(self, engines: Engines) -> None:
        leader, follower = engines.leader(), engines.make()
        engines.server.do("CONFIG", "SET", "maxmemory-policy", "noeviction")
        engines.server.do("CONFIG", "SET", "maxmemory", 1)
        before = all_data(engines.server)
        for flush in (Flush(1, ROWS), whole(ROWS)):
            with pytest.raises(EngineAwayError, match="memory is full"):
                leader.flush(flush)
        assert all_data(engines.server) == before
        leader.renew()  # needs no memory
        assert join(follower)[1] == {}
        engines.server.do("CONFIG", "SET", "maxmemory", 0)
        leader.flush(whole(ROWS))
        assert join(follower)[1] == {0: {5: 1.0}}

    def test_a_full_memory_within_pieces(
        self, engines: Engines, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(redis_leader, "PIECE_BYTES", 1000)
        leader = engines.leader()
        engines.server.do("CONFIG", "SET", "maxmemory", 1)
        before = all_data(engines.server)
        with pytest.raises(EngineAwayError, match="memory is full"):
            leader.flush(whole(ROWS))
        assert all_data(engines.server) == before

    @pytest.mark.parametrize(
        ("policy", "is_warned"),
        [("allkeys-lru", True), ("allkeys-random", True), ("volatile-lru", False)],
    )
    def test_eviction(self, engines: Engines, policy: str, is_warned: bool) -> None:
        engines.server.do("CONFIG", "SET", "maxmemory-policy", policy)
        warnings = engines.make().warnings()
        assert len(warnings) == is_warned
        assert all(policy in warning for warning in warnings)

    def test_rings_that_are_evicted(self, engines: Engines) -> None:
        leader, follower = engines.leader(), engines.make()
        engines.server.do("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
        engines.server.do("CONFIG", "SET", "maxmemory", 1)
        with pytest.raises((EngineAwayError, FencedError)):
            for _ in range(20):
                leader.flush(Flush(1, ROWS))
        engines.server.do("CONFIG", "SET", "maxmemory", 0)
        if leader.lead("host:1", 5):
            leader.flush(whole(ROWS))
        assert join(follower)[1] == {0: {5: 1.0}}

    def test_a_replica(self, engines: Engines) -> None:
        leader = engines.leader()
        engines.server.do("REPLICAOF", HOST, free_port())
        try:
            with pytest.raises(EngineAwayError, match="a replica"):
                leader.flush(Flush(1, ROWS))
            assert not leader._connection.is_open  # its name is resolved again
        finally:
            engines.server.do("REPLICAOF", "NO", "ONE")
        leader.flush(whole(ROWS))

    def test_a_disk_that_fails(self, engines: Engines) -> None:
        leader = engines.leader()
        do = engines.server.do
        do("CONFIG", "SET", "save", "3600 1")
        folder = Path(do("CONFIG", "GET", "dir")[1].decode())
        (folder / "dump.rdb").mkdir()  # in the place of the file
        do("BGSAVE")
        wait_until(
            lambda: b"bgsave_status:err" in do("INFO", "persistence"),
            PATIENCE_SECONDS,
            "the failure",
        )
        with pytest.raises(EngineAwayError, match="cannot save"):
            leader.flush(Flush(1, ROWS))

    def test_a_busy_server(self, engines: Engines) -> None:
        leader = engines.leader()
        do = engines.server.do
        do("CONFIG", "SET", "lua-time-limit", 1)
        with socket.create_connection((HOST, engines.server.port)) as other:
            other.sendall(
                b"*3\r\n$4\r\nEVAL\r\n$17\r\nwhile true do end\r\n$1\r\n0\r\n"
            )
            with pytest.raises(EngineAwayError, match="busy for seconds"):
                while True:
                    leader.flush(Flush(1))
            do("SCRIPT", "KILL")
        leader.flush(whole())

    @pytest.mark.parametrize("name", ["epoch", "live", "leader", "head", "ring:A:1m"])
    @pytest.mark.parametrize("what", ["list", "string"])
    def test_keys_of_others(self, engines: Engines, name: str, what: str) -> None:
        command = ("RPUSH",) if what == "list" else ("SET",)
        engines.server.do(*command, key(name), "foreign")
        leader = engines.make()
        with pytest.raises(EngineRefusedError, match=f"key .*{name} .* did not write"):
            leader.lead("host:1", 5)
            leader.flush(whole(ROWS))
        kept = ("LRANGE", key(name), 0, -1) if what == "list" else ("GET", key(name))
        assert engines.server.do(*kept) in (b"foreign", [b"foreign"])

    @pytest.mark.parametrize("name", ["members", "wants", "answers"])
    def test_hashes_of_others(self, engines: Engines, name: str) -> None:
        leader = engines.leader()
        engines.server.do("SET", key(name), "foreign")
        with pytest.raises(EngineRefusedError, match=f"key .*{name} .*did not write"):
            leader.stand_by(Member("host:1", True, 0))
            engines.make().request(Request("host:2", MINUTES))
        assert engines.server.do("GET", key(name)) == b"foreign"

    @pytest.mark.parametrize("name", ["members", "wants", "answers"])
    def test_values_of_others_in_a_hash(self, engines: Engines, name: str) -> None:
        leader = engines.leader()
        engines.server.do("HSET", key(name), "name", "foreign")
        acts: dict[str, list[Callable[[], object]]] = {
            "members": [lambda: leader.stand_by(Member("host:1", True, 0))],
            "wants": [leader.requests],
            "answers": [leader.requests],
        }
        if name != "members":
            follower = engines.make()
            acts[name].append(lambda: follower.request(Request("host:2", MINUTES)))
        for act in acts[name]:
            with pytest.raises(EngineRefusedError, match=f"key .*{name} .*a hash, whi"):
                act()
        assert engines.server.do("HGETALL", key(name)) == [b"name", b"foreign"]
        assert engines.server.do("PTTL", key(name)) == -1

    def test_a_log_of_others(self, engines: Engines) -> None:
        live = key("live")
        engines.server.do("XADD", live, "*", "hello", "world")
        before = engines.server.do("DUMP", live)
        leader = engines.make()
        with pytest.raises(EngineRefusedError, match=r"key .*live .*a stream, which"):
            leader.lead("host:1", 5)
        engines.server.do("DEL", live)
        assert leader.lead("host:1", 5)
        engines.server.do("RESTORE", live, 0, before)
        with pytest.raises(EngineRefusedError, match=r"key .*live .*a stream, which"):
            leader.flush(whole(ROWS))
        assert engines.server.do("XLEN", live) == 1

    @pytest.mark.parametrize("name", ["head", "catalog", "state", "ring:A:1m"])
    def test_keys_that_others_put_there_later(
        self, engines: Engines, name: str
    ) -> None:
        leader, follower = engines.leader(), engines.make()
        engines.server.do("SET", key(name), "foreign")
        with pytest.raises(EngineRefusedError, match=f"key .*{name} .*did not write"):
            join(follower)
        with pytest.raises(EngineRefusedError, match=f"key .*{name} .*did not write"):
            leader.flush(whole(ROWS))
        assert engines.server.do("GET", key(name)) == b"foreign"

    @pytest.mark.parametrize("name", ["head", "catalog", "state", "ring:A:1m"])
    def test_another_version(self, engines: Engines, name: str) -> None:
        leader, follower = engines.leader(), engines.make()
        leader.resign()
        engines.server.do("SETRANGE", key(name), 4, "\x09")
        before = all_data(engines.server)
        with pytest.raises(EngineRefusedError, match=f"{name} .*version 9"):
            join(follower)
        with pytest.raises(EngineRefusedError, match=f"{name} .*version 9"):
            if leader.lead("host:1", 5):
                before = all_data(engines.server)
                leader.flush(whole(ROWS))
        assert all_data(engines.server) == before

    def test_another_version_of_the_fence(self, engines: Engines) -> None:
        leader, follower = engines.leader(), engines.make()
        leader.resign()
        engines.server.do("HSET", key("epoch"), "format", "9")
        before = all_data(engines.server)
        for act in (follower.join, lambda: leader.lead("host:1", 5)):
            with pytest.raises(EngineRefusedError, match="version 9"):
                act()
        assert all_data(engines.server) == before

    def test_a_truncated_ring(self, engines: Engines) -> None:
        leader, follower = engines.leader(), engines.make()
        ring = engines.server.do("GET", key("ring:A:1m"))
        engines.server.do("SET", key("ring:A:1m"), ring[:-72])
        with pytest.raises(EngineRefusedError, match=r"ring:A:1m .*truncated"):
            join(follower)
        leader.flush(whole(ROWS))  # it is ours
        assert join(follower)[1] == {0: {5: 1.0}}

    def test_a_damaged_flush(self, engines: Engines) -> None:
        leader, follower = engines.leader(), engines.make()
        position = follower.join().position
        fields = ("e", position.epoch, "s", 2, "j", 0, "f", b"shmf\x01\x00\x02\x00xx")
        engines.server.do("XADD", key("live"), "*", *fields)
        with pytest.raises(EngineRefusedError, match=r"live .*truncated"):
            follower.follow(position, 5)
        assert leader.leadership().epoch


def test_a_catalog_of_another_capacity(engines: Engines) -> None:
    leader, follower = engines.leader(), engines.make()
    leader.flush(whole(rows(*((0, n, 1.0) for n in range(20))), history=20))
    joined, held = join(follower)
    assert joined.catalog == Catalog(MINUTES, 20)
    assert len(held[0]) == 20


ANSWERS = {
    "OOM command not allowed when used memory > 'maxmemory'.": EngineAwayError,
    "CLUSTERDOWN The cluster is down": EngineAwayError,
    "MASTERDOWN Link with MASTER is down": EngineAwayError,
    "NOREPLICAS Not enough good replicas to write.": EngineAwayError,
    "TRYAGAIN Multiple keys request during rehashing of slot": EngineAwayError,
    "ERR Error running script (call to f_0): @user_script:1: -READONLY You can't write"
    " against a read only replica.": EngineAwayError,
    "UNBLOCKED force unblock from blocking operation": EngineAwayError,
    "ERR something that is new": EngineAwayError,
    "ERR unknown command `EVALSHA`, with args beginning with:": EngineRefusedError,
    "WRONGTYPE Operation against a key holding the wrong kind": EngineRefusedError,
    "CROSSSLOT Keys in request don't hash to the same slot": EngineRefusedError,
    "NOPERM this user has no permissions to run the 'xadd' command": EngineRefusedError,
    "ERR The user executing the script can't run this command": EngineRefusedError,
}


@pytest.fixture
def parse() -> Iterator[Callable[[str], Exception]]:
    base = pytest.importorskip("redis._parsers.base")
    return base.BaseParser.parse_error


@pytest.mark.parametrize("text", ANSWERS)
def test_answers_in_words(text: str, parse: Callable[[str], Exception]) -> None:
    """redis-py takes some codes out of the text, and leaves others there."""
    from redis.exceptions import ResponseError

    for error in (parse(text), ResponseError(text)):
        found = explain(error, "EVALSHA", "host:1/0")
        assert type(found) is ANSWERS[text]
        assert "Redis host:1/0" in str(found)
        assert text.split(" ", 1)[1][:30] in str(found)
