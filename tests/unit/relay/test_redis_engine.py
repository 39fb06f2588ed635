"""The engine of Redis, with a real server: leadership, flushes, joins, the log."""

import time
from typing import Any

import numpy as np
import pytest
from support.redis_engines import NAME, Engines, key
from support.redis_server import RedisServer
from support.relay_flushes import HEAD, MINUTES, join, rows, same_rows, take, whole

from shmfeed.errors import BadArgumentError
from shmfeed.relay import redis_leader, script
from shmfeed.relay.engine import (
    Answer,
    EngineAwayError,
    EngineRefusedError,
    FencedError,
    Leadership,
    Member,
    MustJoinError,
    Request,
)
from shmfeed.relay.flush import NO_ROWS, Catalog, Flush, StreamMarks
from shmfeed.relay.redis_connection import RedisConnection

ALL_KEYS = {"epoch", "head", "catalog", "state", "live", "leader"}


class TestLeadership:
    def test_one_leads(self, engines: Engines) -> None:
        one, other = engines.make(), engines.make()
        assert one.leadership() == Leadership("", 0, 0)
        epoch = one.lead("host:1", 5)
        assert epoch
        assert other.lead("host:2", 6) is None
        assert other.leadership() == Leadership("host:1", epoch, 5)
        one.renew()

    def test_a_process_of_the_same_name_is_another_one(self, engines: Engines) -> None:
        one, other = engines.make(), engines.make()
        assert one.lead("host:1", 5)
        assert other.lead("host:1", 5) is None

    def test_who_resigns_makes_room(self, engines: Engines) -> None:
        one, other = engines.make(), engines.make()
        first = one.lead("host:1", 5)
        one.resign()
        assert other.leadership().epoch == 0
        second = other.lead("host:2", 6)
        assert first
        assert second
        assert second > first
        one.resign()  # leads no longer: no effect
        assert other.leadership().leader == "host:2"
        with pytest.raises(FencedError, match="has no epoch"):
            one.renew()

    def test_an_epoch_is_at_least_the_time_of_the_server(
        self, engines: Engines
    ) -> None:
        seconds, _ = map(int, engines.server.do("TIME"))
        one = engines.make()
        first = one.lead("host:1", 5)
        again = one.lead("host:1", 5)  # whose answer was lost
        assert first
        assert again
        assert again > first >= seconds * 1000
        engines.server.do("HSET", key("epoch"), "epoch", again + 10**6)
        assert one.lead("host:1", 5) == again + 10**6 + 1

    def test_a_leader_that_was_stopped_is_refused(self, engines: Engines) -> None:
        old, new = engines.leader(), engines.make()
        engines.server.do("DEL", key("leader"))  # as time does
        assert new.lead("host:2", 6)
        before = self.data(engines.server)
        for act in (old.renew, lambda: old.flush(Flush(1, rows((0, 5, 1.0))))):
            with pytest.raises(FencedError, match="another leader has come"):
                act()
        with pytest.raises(FencedError):
            old.flush(whole(rows((0, 5, 1.0))))
        assert self.data(engines.server) == before

    def data(self, server: RedisServer) -> dict[str, Any]:
        return {name: server.do("DUMP", name) for name in server.all_keys()}

    def test_a_leader_outlives_its_key_if_no_other_has_come(
        self, engines: Engines
    ) -> None:
        leader = engines.leader()
        engines.server.do("DEL", key("leader"))
        leader.flush(Flush(1, rows((0, 5, 1.0))))
        leader.renew()
        assert leader.leadership().leader == "host:1"

    def test_a_leadership_ends_by_itself(self, engines: Engines) -> None:
        engines.leader()
        life = engines.server.do("PTTL", key("leader"))
        assert 0 < life <= 3000

    def test_members(self, engines: Engines) -> None:
        one, other = engines.make(), engines.make()
        first, second = Member("a b:1", True, 0), Member("a b:1", False, 3)
        assert one.stand_by(first) == [first]
        assert set(other.stand_by(second)) == {first, second}
        assert first not in one.stand_by(first._replace(rank=2))
        members = key("members")
        assert 0 < engines.server.do("PTTL", members) <= 3000
        for field in engines.server.do("HKEYS", members):
            engines.server.do("HSET", members, field, "5 0 1 gone")  # long ago
        assert other.stand_by(second) == [second]
        engines.server.do("HSET", members, "token", "99999999999999 of another version")
        assert other.stand_by(second) == [second]

    def test_feeds_have_their_own_leaders(self, engines: Engines) -> None:
        assert engines.make("a").lead("host:1", 5)
        assert engines.make("b").lead("host:2", 5)


class TestFlush:
    def test_a_join_after_a_whole_flush(self, engines: Engines) -> None:
        leader, follower = engines.make(), engines.make()
        epoch = leader.lead("host:1", 5)
        marks = {0: StreamMarks(updated=3, why="so"), 2: StreamMarks(False)}
        closed, forming = rows((0, 7, 1.0), (0, 9, 2.0), (2, 3, 3.0)), rows((1, 8, 4.0))
        leader.flush(whole(closed, forming=forming, marks=marks))
        joined, held = join(follower)
        assert (joined.head, joined.catalog) == (HEAD, Catalog(MINUTES, 10))
        assert (joined.position.epoch, joined.position.sequence) == (epoch, 1)
        assert joined.marks == marks
        assert same_rows(joined.forming, forming)
        assert held == {0: {7: 1.0, 9: 2.0}, 2: {3: 3.0}}
        assert 0 <= joined.delay < 60
        names = ALL_KEYS | {f"ring:{symbol}:1m" for symbol in "ABC"}
        assert set(engines.server.all_keys()) == {key(name) for name in names}

    def test_rows_keep_each_byte(self, engines: Engines) -> None:
        leader, follower = engines.make(), engines.make()
        assert leader.lead("host:1", 5)
        closed = rows((0, 7, np.nan), (1, 5, -0.0), (1, 6, 5e-324))
        closed.block.view(np.int64)[8] = [17, 511, 1 << 40]
        leader.flush(whole(closed))
        joined = follower.join()
        (piece,) = follower.rings(joined.catalog)
        assert same_rows(piece, closed)
        leader.flush(Flush(1, closed))
        (entry,) = follower.follow(joined.position, 5)
        assert same_rows(entry.flush.closed, closed)

    def test_a_follower_takes_what_comes(self, engines: Engines) -> None:
        leader, follower = engines.leader(), engines.make()
        joined, held = join(follower)
        flushes = [
            Flush(1, rows((0, 5, 1.0), (1, 5, 2.0))),
            Flush(2, forming=rows((0, 6, 1.0)), marks={0: StreamMarks(updated=1)}),
            Flush(3, rows((0, 5, 1.5), (0, 6, 3.0))),
            Flush(4, head=HEAD._replace(state="reconnecting")),
            Flush(5, rows((1, 1, 9.0)), whole=(1,)),
            Flush(6),
        ]
        for flush in flushes:
            leader.flush(flush)
        position, entries = joined.position, []
        while len(entries) < len(flushes):
            entries += follower.follow(position, 5)
            position = entries[-1].position
        for entry, flush in zip(entries, flushes, strict=True):
            assert same_rows(entry.flush.closed, flush.closed)
            assert entry.flush[3:] == flush[3:]
            assert 0 <= entry.delay < 60
            take(held, entry.flush, 10)
        again, same = join(follower)
        assert held == same == {0: {5: 1.5, 6: 3.0}, 1: {1: 9.0}}
        assert again.head.state == "reconnecting"

    def test_a_state_is_as_of_its_entry(
        self, engines: Engines, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(redis_leader, "STATE_SECONDS", 3600.0)
        leader, follower = engines.leader(), engines.make()
        leader.flush(Flush(1, forming=rows((0, 6, 1.0))))
        joined, _ = join(follower)
        assert len(joined.forming.numbers) == 0
        (entry,) = follower.follow(joined.position, 5)
        assert same_rows(entry.flush.forming, rows((0, 6, 1.0)))
        monkeypatch.setattr(redis_leader, "STATE_SECONDS", 0.0)
        leader.flush(Flush(2, forming=rows((1, 6, 2.0))))
        joined, _ = join(follower)
        assert same_rows(joined.forming, rows((0, 6, 1.0), (1, 6, 2.0)))
        assert joined.position == follower.follow(entry.position, 5)[-1].position

    def test_ages_go_on(
        self, engines: Engines, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(redis_leader, "STATE_SECONDS", 0.0)
        leader, follower = engines.make(), engines.make()
        assert leader.lead("host:1", 5)
        clock = redis_leader.boot_seconds
        marks = {0: StreamMarks(updated=7), 1: StreamMarks()}
        leader.flush(whole(marks=marks, head=HEAD._replace(message_age=3)))
        monkeypatch.setattr(redis_leader, "boot_seconds", lambda: clock() + 50)
        leader.flush(Flush(1))
        joined = follower.join()
        assert 50_007 <= joined.marks[0].updated < 110_000
        assert joined.marks[1] == StreamMarks()
        assert joined.head.message_age >= 50_003

    def test_new_streams_need_no_whole_flush(self, engines: Engines) -> None:
        leader, follower = engines.make(), engines.make()
        assert leader.lead("host:1", 5)
        leader.flush(whole(rows((0, 5, 1.0)), MINUTES[:1]))
        joined = follower.join()
        leader.flush(Flush(2, rows((1, 5, 2.0)), catalog=Catalog(MINUTES, 10)))
        (entry,) = follower.follow(joined.position, 5)
        assert entry.flush.whole == (1, 2)
        leader.flush(Flush(3, rows((2, 5, 3.0))))
        assert join(follower)[1] == {0: {5: 1.0}, 1: {5: 2.0}, 2: {5: 3.0}}

    @pytest.mark.parametrize(
        ("catalog", "match"),
        [
            (Catalog(MINUTES[1:], 10), "number"),
            (Catalog(MINUTES[:2], 10), "number"),
            (Catalog(MINUTES, 11), "history"),
        ],
    )
    def test_a_change_that_needs_a_whole_flush(
        self, engines: Engines, catalog: Catalog, match: str
    ) -> None:
        leader = engines.leader()
        with pytest.raises(BadArgumentError, match=match):
            leader.flush(Flush(1, catalog=catalog))
        leader.flush(Flush(1))  # nothing has changed

    def test_a_first_flush_must_be_whole(self, engines: Engines) -> None:
        leader = engines.make()
        assert leader.lead("host:1", 5)
        with pytest.raises(BadArgumentError, match="must be whole"):
            leader.flush(Flush(1))
        with pytest.raises(BadArgumentError, match="a catalog and a head"):
            leader.flush(whole(head=None))
        with pytest.raises(EngineRefusedError, match="more than a key"):
            leader.flush(whole(history=8_000_000))

    def test_rings_of_streams_that_are_gone_are_deleted(self, engines: Engines) -> None:
        engines.leader().resign()
        engines.server.do("SET", "foreign", "x")
        leader = engines.make()
        assert leader.lead("host:2", 6)
        leader.flush(whole(rows((0, 5, 1.0)), (("D", "1h"),)))
        keys = engines.server.all_keys()
        assert [name for name in keys if ":ring:" in name] == [key("ring:D:1h")]
        assert "foreign" in keys

    def test_a_large_flush_goes_in_pieces(
        self, engines: Engines, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(redis_leader, "PIECE_BYTES", 2000)
        monkeypatch.setattr(redis_leader, "ENTRY_BYTES", 5000)
        leader, follower = engines.make(), engines.make()
        assert leader.lead("host:1", 5)
        closed = rows(
            *((n, minute, minute + n) for n in range(3) for minute in range(9))
        )
        leader.flush(whole(closed))
        joined, held = join(follower)
        assert held == {n: {m: m + n for m in range(9)} for n in range(3)}
        closed = rows(*((n, minute, -1.0) for n in range(3) for minute in range(9, 40)))
        leader.flush(Flush(1, closed))
        with pytest.raises(MustJoinError, match="rings as a whole"):
            follower.follow(joined.position, 5)
        assert join(follower)[1] == {
            n: dict.fromkeys(range(30, 40), -1.0) for n in range(3)
        }
        assert engines.server.do("HGET", key("epoch"), "attempt") == b"2"


class TestTwice:
    """A flush whose answer is lost, and one that comes late."""

    def test_a_lost_answer(
        self, engines: Engines, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        leader, follower = engines.leader(), engines.make()
        joined = follower.join()
        connection = leader._connection
        run, lost = connection.run, []

        def lose_the_answer(which: script.Script, *arguments: Any) -> Any:
            answer = run(which, *arguments)
            if which is script.FLUSH and not lost:
                lost.append(answer)
                connection.close()
                raise redis_leader.ConnectionDroppedError("lost")
            return answer

        monkeypatch.setattr(connection, "run", lose_the_answer)
        leader.flush(Flush(1, rows((0, 5, 1.0))))
        assert lost
        leader.flush(Flush(2, rows((0, 6, 2.0))))
        entries = follower.follow(joined.position, 5)
        entries += follower.follow(entries[-1].position, 0.1)
        assert [entry.position.sequence for entry in entries] == [2, 3]

    def test_a_command_of_a_connection_that_was_given_up(
        self, engines: Engines, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It comes after the commands that replaced it, and must change nothing."""
        monkeypatch.setattr(redis_leader, "PIECE_BYTES", 1000)
        leader = engines.leader()
        run, late = leader._connection.run, []

        def keep_for_later(which: script.Script, *arguments: Any) -> Any:
            if which in (script.RINGS, script.FLUSH):
                late.append((which, *arguments))
                raise EngineAwayError("no answer")
            return run(which, *arguments)

        monkeypatch.setattr(leader._connection, "run", keep_for_later)
        with pytest.raises(EngineAwayError):
            leader.flush(Flush(1, rows((0, 5, 1.0))))
        for _ in range(2):
            with pytest.raises(EngineAwayError):
                leader.flush(whole(rows((0, 6, 2.0), (1, 6, 2.0))))
        answers: list[Any] = []

        def all_at_once(which: script.Script, *arguments: Any) -> Any:
            answer = run(which, *arguments)
            if which in (script.RINGS, script.FLUSH):  # the late ones come between
                answers.extend(run(*command)[0] for command in late)
            return answer

        monkeypatch.setattr(leader._connection, "run", all_at_once)
        leader.flush(whole(rows((0, 7, 3.0), (1, 7, 4.0))))
        assert set(answers) == {script.HAD}
        assert len(answers) >= 6
        assert join(engines.make())[1] == {0: {7: 3.0}, 1: {7: 4.0}}

    def test_a_leader_that_dies_before_its_rings_are_written(
        self, engines: Engines, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(redis_leader, "STATE_SECONDS", 0.0)
        leader, follower = engines.leader(), engines.make()
        leader.flush(Flush(1, rows((0, 5, 1.0))))
        run = leader._connection.run

        def die_at_the_rings(which: script.Script, *arguments: Any) -> Any:
            if which is script.RINGS:
                raise EngineAwayError("it died")
            return run(which, *arguments)

        monkeypatch.setattr(leader._connection, "run", die_at_the_rings)
        with pytest.raises(EngineAwayError):
            leader.flush(Flush(2, rows((0, 6, 2.0))))
        joined, held = join(follower)
        assert held == {0: {5: 1.0}}
        (entry,) = follower.follow(joined.position, 5)
        take(held, entry.flush, 10)
        assert held == {0: {5: 1.0, 6: 2.0}}

    def test_another_node_may_lack_rings(
        self, engines: Engines, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        leader = engines.leader()
        run = leader._connection.run

        def move(which: script.Script, *arguments: Any) -> Any:
            answer = run(which, *arguments)
            leader._connection.run_id = "of another node"
            return answer

        monkeypatch.setattr(leader._connection, "run", move)
        with pytest.raises(EngineAwayError, match="moved the keys"):
            leader.flush(Flush(1, rows((0, 5, 1.0))))
        leader.flush(whole(rows((0, 5, 1.0))))

    def test_an_answer_that_is_lost_by_a_server_without_a_name(
        self, engines: Engines, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another server may answer the next connection."""
        monkeypatch.setattr(RedisConnection, "_check_server", lambda *_: "")
        leader = engines.leader()
        engines.server.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        with pytest.raises(EngineAwayError):
            leader.flush(Flush(1, rows((0, 5, 1.0))))
        leader.flush(whole(rows((0, 5, 1.0))))


class TestFollow:
    def test_nothing_is_there_yet(self, engines: Engines) -> None:
        follower = engines.make()
        with pytest.raises(
            EngineAwayError, match=f"no leader has published feed {NAME}"
        ):
            follower.join()
        assert engines.make().lead("host:1", 5)
        with pytest.raises(EngineAwayError, match="no leader has published"):
            follower.join()

    def test_a_wait_ends(self, engines: Engines) -> None:
        engines.leader()
        follower = engines.make()
        position = follower.join().position
        assert follower.follow(position, 0.0) == []
        assert follower.follow(position, 0.05) == []

    def test_the_head_that_was_written_last(self, engines: Engines) -> None:
        other = engines.make()
        assert other.head() is None
        engines.leader().resign()
        assert other.head() == HEAD

    def test_a_new_leader(self, engines: Engines) -> None:
        old, new, follower = engines.leader(), engines.make(), engines.make()
        position = follower.join().position
        old.flush(Flush(1))
        old.resign()
        assert new.lead("host:2", 6)
        (entry,) = follower.follow(position, 5)
        assert follower.follow(entry.position, 0.0) == []  # nothing is written yet
        new.flush(whole())
        with pytest.raises(MustJoinError, match="a leader of epoch"):
            follower.follow(entry.position, 5)
        joined, _ = join(follower)
        assert joined.position.epoch > entry.position.epoch

    def test_what_came_before_a_break_is_not_lost(self, engines: Engines) -> None:
        leader, follower = engines.leader(), engines.make()
        position = follower.join().position
        leader.flush(Flush(1, rows((0, 5, 1.0))))
        leader.flush(whole())
        (entry,) = follower.follow(position, 5)
        assert same_rows(entry.flush.closed, rows((0, 5, 1.0)))
        with pytest.raises(MustJoinError, match="as a whole"):
            follower.follow(entry.position, 5)

    def test_a_trimmed_log(
        self, engines: Engines, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(redis_leader, "LOG_ENTRIES", 64)
        leader, follower = engines.leader(), engines.make()
        position = follower.join().position
        for _ in range(250):
            leader.flush(Flush(1))
        assert engines.server.do("XLEN", key("live")) < 200
        with pytest.raises(MustJoinError, match=r"trimmed: \d+ flushes were missed"):
            follower.follow(position, 5)

    def test_a_log_of_large_entries_is_shorter(
        self, engines: Engines, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(redis_leader, "LOG_BYTES", 1 << 20)
        leader = engines.leader()
        bars = rows(*((0, minute, 1.0) for minute in range(200)))
        for _ in range(300):
            leader.flush(Flush(1, bars))
        assert 64 <= engines.server.do("XLEN", key("live")) < 200
        assert engines.server.do("MEMORY", "USAGE", key("live")) < 4 << 20

    @pytest.mark.parametrize("what", ["deleted log", "deleted entries"])
    def test_a_log_that_is_shorter(self, engines: Engines, what: str) -> None:
        leader, follower = engines.leader(), engines.make()
        position = follower.join().position
        leader.flush(Flush(1))
        leader.flush(Flush(2))
        if what == "deleted log":
            engines.server.do("DEL", key("live"))
        else:
            engines.server.do("XTRIM", key("live"), "MAXLEN", 0)
        with pytest.raises(MustJoinError, match="no entry after flush 1 of"):
            follower.follow(position, 0.05)
        leader.flush(Flush(3))
        with pytest.raises(MustJoinError, match="2 flushes were missed"):
            follower.follow(position, 5)

    def test_a_server_that_lost_the_newest(self, engines: Engines) -> None:
        """A replica that takes over may lack what the follower has seen already."""
        leader, follower = engines.leader(), engines.make()
        position = follower.join().position
        dumps = {
            name: engines.server.do("DUMP", name) for name in engines.server.all_keys()
        }
        for _ in range(3):
            leader.flush(Flush(1))
        position = follower.follow(position, 5)[-1].position
        assert position.sequence == 4
        for name, dump in dumps.items():
            engines.server.do("RESTORE", name, 0, dump, "REPLACE")
        with pytest.raises(MustJoinError, match="the leader is at 1 of"):
            follower.follow(position, 0.05)
        with pytest.raises(EngineAwayError, match="has lost flushes after number 1"):
            leader.flush(Flush(1))
        leader.flush(whole(rows((0, 5, 1.0))))
        with pytest.raises(MustJoinError):
            follower.follow(position, 5)
        assert join(follower)[1] == {0: {5: 1.0}}

    def test_entries_of_others(self, engines: Engines) -> None:
        engines.leader()
        follower = engines.make()
        position = follower.join().position
        engines.server.do("XADD", key("live"), "*", "hello", "world")
        with pytest.raises(EngineRefusedError, match="did not write"):
            follower.follow(position, 5)

    def test_a_delay_is_never_too_small(
        self, engines: Engines, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        leader, follower = engines.leader(), engines.make()
        position = follower.join().position
        made = redis_leader.boot_seconds()
        leader.flush(Flush(1))
        (entry,) = follower.follow(position, 5)
        assert 0 < entry.delay <= 60
        # A flush that was under way for long, for want of a connection.
        clock = redis_leader.boot_seconds
        monkeypatch.setattr(redis_leader, "boot_seconds", lambda: clock() - 30)
        leader.flush(Flush(1))
        (entry,) = follower.follow(entry.position, 5)
        assert 30 <= entry.delay <= clock() - made + 32

    def test_ages_count_from_the_read(self, engines: Engines) -> None:
        """A leader may be stopped between its read and its write."""
        leader, follower = engines.leader(), engines.make()
        position = follower.join().position
        leader.flush(Flush(1, read_at=redis_leader.boot_seconds() - 30))
        (entry,) = follower.follow(position, 5)
        assert entry.delay >= 30
        assert entry.flush.read_at == 0.0

    def test_a_new_connection_measures_the_clock_of_a_server_without_a_name(
        self, engines: Engines, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A refused INFO leaves no other sign of another server."""
        monkeypatch.setattr(RedisConnection, "_check_server", lambda *_: "")
        leader, follower = engines.leader(), engines.make()
        position = follower.join().position
        for clock in (leader._clock, follower._clock):
            clock._low, clock._high = clock._low + 100, clock._high + 100
        leader.close()
        follower.close()
        leader.renew()
        leader.flush(Flush(1))
        follower.leadership()
        (entry,) = follower.follow(position, 5)
        assert 0 < entry.delay < 60
        low, high = leader._clock._low, follower._clock._high
        assert low - 60 < time.time() - redis_leader.boot_seconds() < high + 60


class TestRequests:
    WANTED = (("X", "1m"), ("Y", "5m"))

    def test_a_request_is_answered(self, engines: Engines) -> None:
        leader, follower = engines.leader(), engines.make()
        request = Request("host:9", self.WANTED)
        assert follower.request(request) is None
        assert leader.requests() == [request]
        answer = Answer((("X", "1m"),), {("Y", "5m"): "no such symbol"})
        leader.answer("host:9", answer)
        assert follower.request(request) == answer
        assert follower.request(request._replace(streams=self.WANTED[:1])) is None
        assert leader.requests() == [Request("host:9", self.WANTED[:1])]

    def test_a_new_leader_has_not_answered_yet(self, engines: Engines) -> None:
        old, new, follower = engines.leader(), engines.make(), engines.make()
        request = Request("host:9", self.WANTED)
        follower.request(request)
        old.requests()
        old.answer("host:9", Answer(self.WANTED, {}))
        assert follower.request(request)
        old.resign()
        assert new.lead("host:2", 6)
        assert follower.request(request) is None
        assert new.requests() == [request]
        with pytest.raises(FencedError):
            old.answer("host:9", Answer((), {}))

    def test_a_follower_that_vanished(self, engines: Engines) -> None:
        leader, follower = engines.leader(), engines.make()
        follower.request(Request("host:9", self.WANTED))
        leader.requests()
        leader.answer("host:9", Answer(self.WANTED, {}))
        wants = key("wants")
        assert 0 < engines.server.do("PTTL", wants) <= 10_000
        engines.server.do("HSET", wants, "host:9", "5 long ago")
        engines.server.do("HSET", wants, "host:8", "99999999999999 not ours")
        assert leader.requests() == []
        leader.answer("host:9", Answer((), {}))
        assert engines.server.do("EXISTS", key("answers")) == 0


def test_no_rows_are_no_trouble(engines: Engines) -> None:
    leader, follower = engines.make(), engines.make()
    assert leader.lead("host:1", 5)
    leader.flush(whole(NO_ROWS, streams=()))
    joined, held = join(follower)
    assert (joined.catalog.streams, held) == ((), {})
