"""The rights that the page gives a user of Redis suffice, and are needed."""

import re
from pathlib import Path

import pytest
from support.relay_flushes import MINUTES, rows, whole

from shmfeed.relay.engine import Answer, EngineRefusedError, Member, Request
from shmfeed.relay.flush import Flush

PAGE = Path(__file__).parents[2] / "docs/relay.md"
PASSWORD = "a-long-password"


def user_command(name: str) -> list[str]:
    """Return the words of the page's ACL command, for a feed of this name."""
    found = re.search(r"ACL SETUSER feeds (.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    text = found[1].replace("PASSWORD", PASSWORD).replace(":spot}", f":{name}}}")
    return ["ACL", "SETUSER", "feeds", *text.split()]


def use(leader, follower) -> None:
    """Call everything that an engine has."""
    assert leader.lead("host:1", 5)
    leader.flush(whole())
    leader.renew()
    leader.flush(Flush(2, rows((0, 5, 1.0), (1, 5, 1.0))))
    assert leader.stand_by(Member("host:1", True, 0))
    assert leader.leadership().leader == "host:1"
    joined = follower.join()
    assert list(follower.rings(joined.catalog))
    leader.flush(Flush(3, rows((0, 6, 1.0))))
    entries = follower.follow(joined.position, 1.0)
    assert follower.follow(entries[-1].position, 0.0) == []
    request = Request("host:2", joined.catalog.streams)
    assert follower.request(request) is None
    for one in leader.requests():
        leader.answer(one.follower, Answer(one.streams, {}))
    assert follower.request(request) is not None
    assert leader.warnings() == []
    leader.flush(whole(streams=MINUTES[:1]))  # the rings of others are deleted
    leader.resign()


def test_the_rights_of_the_page_suffice(engines) -> None:
    login = {"user": "feeds", "password": PASSWORD}
    engines.server.do(*user_command("feed.1"))
    use(engines.make(**login), engines.make(**login))


@pytest.mark.parametrize("command", ["evalsha", "xread", "mget", "setrange", "xadd"])
def test_control_a_right_that_is_left_out_is_missed(engines, command) -> None:
    login = {"user": "feeds", "password": PASSWORD}
    engines.server.do(*[one for one in user_command("feed.1") if one != f"+{command}"])
    with pytest.raises(EngineRefusedError, match="lacks a right"):
        use(engines.make(**login), engines.make(**login))
