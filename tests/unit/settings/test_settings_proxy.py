"""The settings of the wire: a proxy, redirects, heartbeats."""

import pytest

from shmfeed.errors import BadArgumentError
from shmfeed.settings.loading import load
from shmfeed.settings.model import describe, from_json, to_json
from shmfeed.text import one_line

PROXY = "http://127.0.0.1:3128"


def refusal(**options):
    with pytest.raises(BadArgumentError) as caught:
        load(options, {})
    return str(caught.value)


def test_proxy_variables_of_other_programs_are_ignored():
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "http_proxy"):
        settings = load({}, {name: PROXY})
        assert (settings.proxy, settings.max_redirects) == (None, 0)


def test_proxy_and_redirects_come_from_every_source():
    settings = load({}, {"SHMFEED_PROXY": PROXY, "SHMFEED_MAX_REDIRECTS": "5"})
    assert (settings.proxy, settings.max_redirects) == (PROXY, 5)
    assert describe(settings)["proxy"] == PROXY
    assert from_json(to_json(settings)) == settings
    assert load({"proxy": "HTTP://Proxy.Example:80/"}, {}).proxy == (
        "http://Proxy.Example:80"
    )
    for none in (None, "none"):
        assert load({"proxy": none}, {}).proxy is None
    for proxy in ("http://[::1]:1", "https://a.b:1", "socks5h://me%40x@a.b:1080"):
        assert load({"proxy": proxy}, {}).proxy == proxy
    assert describe(load({"proxy": proxy}, {}))["proxy"] == "socks5h://a.b:1080"


@pytest.mark.parametrize(
    ("proxy", "words"),
    [
        ("http://proxy.example", "it names no port"),
        ("proxy.example:3128", "its scheme is missing"),
        ("ftp://proxy.example:3128", "its scheme is not http:// or https:// or"),
        ("socks5://proxy.example:1080", "its scheme"),
        ("http://user:hunter2@proxy.example:1", "it holds a password"),
        ("http://:hunter2@proxy.example:1", "it holds a password"),
        ("http://user:@proxy.example:1", "it holds a password"),
        ("socks5h://a:hunter2@b:c@proxy.example:1", "it holds a password"),
        ("http://@proxy.example:1", "its user is empty"),
        ("http://hun%3ater2@proxy.example:1", "its user is empty, too long, or not"),
        ("http://hun%0ater2@proxy.example:1", "its user is empty, too long, or not"),
        ("http://hun%zzter2@proxy.example:1", "its user is empty, too long, or not"),
        ("http://hun ter2@proxy.example:1", "its user is empty, too long, or not"),
        (f"http://{'h' * 256}@proxy.example:1", "its user is empty, too long"),
        ("http://proxy.example:1/path", "it has a path or a query"),
        ("http://proxy.example:1?hunter2", "it has a path or a query"),
        ("http://proxy.example:0", "its port is missing or 0"),
        ("http://proxy.example:99999", "its host or port cannot be read"),
        ("http://:3128", "its host is missing"),
        ("http://a..b:3128", "its host"),
        ("http://a b:3128", "a space"),
        ("http://a:1\r\nX: y", "a space"),
        ("", "is not accepted"),
        (b"http://user:hunter2@proxy:1", "of type bytes"),
        (["http://user:hunter2@proxy:1"], "of type list"),
        (3128, "of type int"),
    ],
)
def test_a_bad_proxy_is_refused_without_its_secrets(proxy, words):
    said = refusal(proxy=proxy)
    assert said.startswith("proxy")
    assert words in said
    assert "an http://, https:// or socks5h:// address with a port" in said
    assert "hunter2" not in said


def test_a_password_without_a_user_is_refused(tmp_path):
    path = tmp_path / "password"
    path.write_text("hunter2")
    path.chmod(0o600)
    for given in ({}, {"proxy": PROXY}):
        said = refusal(**given, proxy_password_file=path)
        assert said.startswith("proxy_password_file is of no use: proxy names no user")
    settings = load({"proxy": "http://me@a.b:1", "proxy_password_file": path}, {})
    assert settings.proxy_password_file == str(path)
    assert from_json(to_json(settings)) == settings


@pytest.mark.parametrize("value", [-1, 6, True, 1.0, "x", None, []])
def test_redirects_are_limited_to_five(value):
    if value is None:
        assert load({"max_redirects": value}, {}).max_redirects == 0
    else:
        assert "an integer from 0 to 5" in refusal(max_redirects=value)


def test_plain_text_to_a_remote_proxy_is_refused():
    local = {"endpoint": "ws://127.0.0.1:9/x"}
    assert load({**local, "proxy": PROXY}, {}).proxy == PROXY
    remote = "http://proxy.example:3128"
    said = refusal(**local, proxy=remote)
    assert said.startswith(
        "endpoint 'ws://127.0.0.1:9/x' would send plain text to proxy"
        " http://proxy.example:3128; use wss://, or allow_insecure"
    )
    assert load({**local, "proxy": remote, "allow_insecure": True}, {}).proxy == remote
    assert load({"endpoint": "wss://x.example", "proxy": remote}, {}).proxy == remote


def test_redact_masks_secrets_and_nothing_else():
    endpoint = "wss://x.example/y?key=abc%20def&a=1&listen"
    settings = load({"endpoint": endpoint, "csrf_token": "token-1"}, {})
    text = "no key abc def, abc%20def or token-1; 1 a listen; key=abc%20def&a=1&listen"
    assert settings.redact(text) == "no key ***, *** or ***; 1 a listen; ***"
    assert load({}, {}).redact(text) == text


def test_redact_masks_a_secret_whose_spaces_were_collapsed():
    """A venue's words become one line before they are redacted."""
    endpoint = "wss://x.example/y?key=SECRET++KEY-12345"
    settings = load({"endpoint": endpoint, "csrf_token": "token  one"}, {})
    text = one_line("no key SECRET  KEY-12345, token  one, or SECRET++KEY-12345")
    assert settings.redact(text) == "no key ***, ***, or ***"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cut: 0123/45678", "cut: ***"),
        ("cut: 0123/45678... and 0123/456, 0123/4", "cut: ***... and ***, 0123/4"),
        (r"in JSON: 0123\/456789abc, cut: 0123\/4567", "in JSON: ***, cut: ***"),
        ("0123/456789abc0123/456789abc", "******"),
    ],
)
def test_redact_masks_the_beginning_of_a_cut_secret(text, shown):
    # A server's words are cut: by ourselves, and by it, where a close frame is full.
    assert load({"csrf_token": "0123/456789abc"}, {}).redact(text) == shown


def test_heartbeat_timeout_must_exceed_the_interval():
    for interval, timeout in ((15, 15), (15, 10), (31, 30)):
        said = refusal(heartbeat_interval=interval, heartbeat_timeout=timeout)
        assert said.startswith(
            f"heartbeat_timeout {timeout} is not more than"
            f" heartbeat_interval {interval},"
        )
    said = refusal(heartbeat_timeout=10)
    assert said.endswith("(heartbeat_timeout from argument)")
    assert load({"heartbeat_timeout": 15.1}, {}).heartbeat_timeout == 15.1
