"""The settings of the relay: addresses of Redis, its password, what goes together."""

import pytest

from shmfeed.codecs import get_codec
from shmfeed.codecs.identity import identity_of
from shmfeed.errors import BadArgumentError
from shmfeed.feeder.reload import compare
from shmfeed.settings import relay
from shmfeed.settings.digest import differing, digests
from shmfeed.settings.endpoint import RedisAddress, parse_redis, redact
from shmfeed.settings.loading import from_env, load
from shmfeed.settings.model import describe, from_json, to_json
from shmfeed.settings.schema import OPTIONS

PASSWORD = "hunter2hunter2"
HERE = "redis://127.0.0.1:6379/0"
FOLLOWER = {"protocol": "redis", "endpoint": HERE}


def refusal(**options):
    with pytest.raises(BadArgumentError) as caught:
        load(options, {})
    return str(caught.value)


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        (HERE, ("127.0.0.1", 6379, 0, "", False)),
        ("redis://localhost", ("localhost", 6379, 0, "", False)),
        ("REDIS://localhost/", ("localhost", 6379, 0, "", False)),
        ("redis://me@[::1]:7000/15", ("::1", 7000, 15, "me", False)),
        ("rediss://m%40e@Redis.Example:1/2", ("redis.example", 1, 2, "m@e", True)),
    ],
)
@pytest.mark.parametrize("name", ["publish_to", "endpoint"])
def test_addresses_of_redis(name, address, parts) -> None:
    given = {"protocol": "redis"} if name == "endpoint" else {}
    settings = load({name: address, **given}, {})
    (found,) = settings.endpoint or (settings.publish_to,)
    assert parse_redis(found) == RedisAddress(*parts)
    assert from_json(to_json(settings)) == settings
    shown = f"{settings!r} {describe(settings)}"
    assert not parts[3] or parts[3] not in redact(found)
    assert "m%40e" not in shown
    assert "me@" not in shown


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("localhost:6379", "its scheme is missing"),
        ("http://localhost:6379", "its scheme is not redis:// or rediss://"),
        ("redis:///0", "its host is missing or malformed"),
        ("redis://localhost:0/0", "its port is missing or 0"),
        ("redis://localhost:99999/0", "its host or port cannot be read"),
        ("redis://localhost/x", "its database is not a number from 0 to 65535"),
        ("redis://localhost/0/1", "its database is not a number"),
        ("redis://localhost/-1", "its database is not a number"),
        ("redis://localhost/65536", "its database is not a number"),
        ("redis://localhost/\u0661", "a character that no address has"),
        ("redis://localhost/0?ssl=1", "it has a query"),
        ("redis://local host/0", "it holds a space"),
        ("redis://@localhost/0", "its user is empty"),
        (f"redis://me:{PASSWORD}@localhost/0", "it holds a password, which belongs in"),
        (f"redis://:{PASSWORD}@localhost/0", "SHMFEED_REDIS_PASSWORD"),
        (f"rediss://:{PASSWORD}@a@localhost", "redis_password_file"),
        (f"redis://localhost/0?password={PASSWORD}", "it has a query"),
    ],
)
def test_other_addresses_are_refused_without_a_secret(address, words) -> None:
    said = refusal(publish_to=address)
    assert said.startswith("publish_to: ")
    assert words in said
    assert "a redis:// or rediss:// address such as" in said
    assert PASSWORD not in said
    if address.startswith("redis"):
        said = refusal(protocol="redis", endpoint=address)
        assert words in said
        assert PASSWORD not in said


@pytest.mark.parametrize("name", ["publish_to", "endpoint"])
def test_plain_text_beyond_this_host_is_refused(name) -> None:
    given = {"protocol": "redis"} if name == "endpoint" else {}
    given[name] = "redis://user@redis.example:6379/0"
    said = refusal(**given)
    assert "'redis://redis.example:6379/0' would send plain text beyond this host" in (
        said
    )
    assert "use rediss://, or allow_insecure" in said
    assert load({**given, "allow_insecure": True}, {}).allow_insecure
    given[name] = "rediss://user@redis.example:6379/0"
    assert not load(given, {}).allow_insecure


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"protocol": "redis"}, "protocol redis has no default endpoint"),
        ({**FOLLOWER, "symbols": "A"}, "symbols are given without resolutions"),
        ({**FOLLOWER, "resolutions": "1m"}, "resolutions are given without symbols"),
        ({**FOLLOWER, "publish_to": HERE}, "publish_to is of no use with protocol"),
        ({**FOLLOWER, "proxy": "http://a:1"}, "proxy is of no use with protocol redis"),
        ({"endpoint": HERE}, "does not go with protocol wealthai; a venue's address"),
        (
            {"protocol": "redis", "endpoint": ["ws://localhost:1"]},
            "does not go with protocol redis; an address of Redis begins with redis://",
        ),
        ({"source_feed": "spot"}, "source_feed is of no use with protocol wealthai"),
        ({**FOLLOWER, "source_feed": "a b"}, "source_feed: "),
        ({"flush_interval": 0}, "flush_interval 0 is not accepted; a number of"),
        ({"publish_to": 5}, "publish_to of type int is not accepted; a redis://"),
    ],
)
def test_what_does_not_go_together(given, words) -> None:
    assert words in refusal(**given)


def test_a_follower_needs_no_streams_and_no_market() -> None:
    settings = load({**FOLLOWER, "feed": "here", "source_feed": "there"}, {})
    assert (settings.follows_relay, settings.source_name) == (True, "there")
    assert settings.market_type == "relayed"
    assert settings.streams == ()
    assert str(identity_of(settings)) == "redis/there/"
    assert identity_of(settings).is_of_follower
    # Settings that mean nothing here are ignored.
    venue = {"market_type": "spot", "venue": "x.y", "lines": 2, "csrf_token": "t"}
    assert identity_of(load({**FOLLOWER, **venue, "feed": "there"}, {})).matches(
        identity_of(settings)
    )
    codec = get_codec("redis")
    assert codec.endpoints(["redis://me@localhost"], ()) == [
        "redis://me@localhost:6379/0"
    ]
    for given in ([], ["ws://localhost:1"]):
        with pytest.raises(BadArgumentError, match="needs an endpoint such as redis"):
            codec.endpoints(given, ())
    assert not identity_of(load({}, {})).is_of_follower


class TestThePassword:
    def test_it_comes_from_the_environment_or_a_file(self, tmp_path) -> None:
        environ = {"SHMFEED_REDIS_PASSWORD": PASSWORD}
        assert load({}, environ).read_redis_password() == PASSWORD
        path = tmp_path / "password"
        path.write_text(f"{PASSWORD}\n")
        path.chmod(0o600)
        settings = load({"redis_password_file": str(path)}, {})
        assert settings.read_redis_password() == PASSWORD
        assert load({}, {}).read_redis_password() == ""
        path.write_text("other\n")
        assert settings.read_redis_password() == "other"
        said = "redis_password and redis_password_file are both given"
        with pytest.raises(BadArgumentError, match=said):
            load({"redis_password_file": str(path)}, environ)
        path.unlink()
        with pytest.raises(BadArgumentError, match=r"redis_password_file .* cannot be"):
            settings.read_redis_password()

    def test_it_is_never_shown(self) -> None:
        settings = load({"publish_to": HERE, "redis_password": PASSWORD}, {})
        values = from_env({"SHMFEED_REDIS_PASSWORD": PASSWORD})
        told = digests(settings, "nonce")
        shown = [settings, describe(settings), values, *settings.__rich_repr__(), told]
        assert PASSWORD not in " ".join(map(repr, shown))
        assert settings.redact(f"said {PASSWORD}!") == "said ***!"
        assert PASSWORD in to_json(settings).decode()  # control: it is there
        other = load({"publish_to": HERE, "redis_password": "other"}, {})
        assert differing(other, told, "nonce") == ["redis_password"]

    def test_it_is_no_option(self) -> None:
        names = [option.setting for option in OPTIONS]
        assert "redis_password_file" in names
        assert "redis_password" not in names


def test_a_reload_publishes_elsewhere_without_another_connection() -> None:
    old = load({"publish_to": HERE}, {})
    new = load({"publish_to": "redis://localhost:7000/0", "flush_interval": 0.1}, {})
    found = compare(old, new)
    assert found.changed == ("publish_to", "flush_interval")
    assert not found.needs_connections
    found = compare(old, load({"publish_to": HERE, "redis_password": "x"}, {}))
    assert not found.needs_connections
    # A follower's own connection uses the password.
    follower = load(FOLLOWER, {})
    found = compare(follower, load({**FOLLOWER, "redis_password": "x"}, {}))
    assert found.needs_connections
    found = compare(follower, load({**FOLLOWER, "source_feed": "x"}, {}))
    assert found.fixed == ("source_feed",)


def test_without_the_package_the_message_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setattr(relay.importlib.util, "find_spec", lambda name: None)
    for given in (FOLLOWER, {"publish_to": HERE}):
        assert "pip install redis hiredis" in refusal(**given)
    assert load({"redis_password": "x"}, {})  # which means nothing here
