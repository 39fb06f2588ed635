"""`shmfeed metrics`: a scrape of a real feed, signals, ports, a package that lacks."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from support.command_line import end

from shmfeed.cli.main import main
from shmfeed.writer import create

pytest_plugins = ["support.command_process"]
pytestmark = pytest.mark.usefixtures("no_settings")


@pytest.fixture
def site(command, feed_name):
    """Return the process that serves the feed's metrics, and its facts."""
    process = command("metrics", "--port", 0, "--feed", feed_name, "--json")
    return process, json.loads(process.stdout.readline())


def scrape(url, accept=""):
    headers = {"Accept": accept} if accept else {}
    with urllib.request.urlopen(
        urllib.request.Request(url, headers=headers), timeout=60
    ) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


def values(text, name):
    return {
        tuple(sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


def test_a_feed_that_comes_goes_and_comes_again(site, feed_name) -> None:
    process, facts = site
    assert facts == {
        "url": f"http://127.0.0.1:{facts['port']}/metrics",
        "port": facts["port"],
        "pid": process.pid,
    }
    url, of_feed = facts["url"], (("feed", feed_name),)
    for _ in range(2):
        kind, text = scrape(url)
        assert kind == "application/openmetrics-text; version=1.0.0; charset=utf-8"
        assert values(text, "shmfeed_feed_up") == {of_feed: 0.0}
        with create(feed_name, history=5, streams=[("BTCUSDT", "1m")]) as writer:
            writer.add_stream("BTCUSDT", "1m").append(60_000, 1.0, 2.0, 0.5, 1.5, 3.0)
            text = scrape(url)[1]
            assert values(text, "shmfeed_feed_up") == {of_feed: 1.0}
            assert values(text, "shmfeed_bars_total") == {of_feed: 1.0}
            writer.close(unlink=True)
    kind, text = scrape(url, "text/plain")
    assert kind == "text/plain; version=0.0.4; charset=utf-8"
    assert f'shmfeed_feed_up{{feed="{feed_name}"}} 0.0\n' in text
    assert end(process, signal.SIGTERM) == (0, "", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_at_once_with_clients_connected(site, number) -> None:
    process, facts = site
    scrape(facts["url"])
    with socket.create_connection(("127.0.0.1", facts["port"])) as idle:
        idle.sendall(b"GET /met")
        begun = time.monotonic()
        assert end(process, number) == (0, "", "")
        assert time.monotonic() - begun < 60


def test_a_port_in_use_and_the_same_port_again(command, site, feed_name) -> None:
    process, facts = site
    scrape(facts["url"])
    other = command("metrics", "--port", facts["port"])
    output, errors = other.communicate(timeout=60)
    assert (other.returncode, output) == (1, "")
    assert errors == (
        f"shmfeed: cannot listen on 127.0.0.1 port {facts['port']}: Address already in"
        " use; choose another --port\n"
    )
    end(process, signal.SIGTERM)
    again = command("metrics", "--port", facts["port"], "--feed", feed_name)
    assert again.stdout.readline() == f"metrics at {facts['url']}\n"
    assert end(again, signal.SIGTERM)[0] == 0


def test_a_page_of_another_name_is_refused(site) -> None:
    request = urllib.request.Request(site[1]["url"], headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(request, timeout=60)
    with refusal.value as answer:
        assert answer.code == 403
    end(site[0], signal.SIGTERM)


def test_once_prints_the_older_format(capsys, cli_ring, feed_name) -> None:
    assert main(["metrics", "--once", "--feed", feed_name]) == 0
    output, errors = capsys.readouterr()
    assert errors == ""
    assert f'shmfeed_stream_bars_total{{feed="{feed_name}",symbol="BTCUSDT"' in output
    assert output.endswith("\n")
    assert "# EOF" not in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "65536"], "port 65536 is not accepted; give one from 0 to 65535"),
        (["--port", "-1"], "port -1 is not accepted; give one from 0 to 65535"),
        (["--feed", "a/b"], "feed name 'a/b' is not accepted; it matches"),
        (["--host", "no such host"], "host 'no such host' has no address"),
    ],
)
def test_arguments_that_are_not_accepted(capsys, arguments, message) -> None:
    assert main(["metrics", *arguments]) == 2
    output, errors = capsys.readouterr()
    assert (output, errors.count("\n")) == ("", 1)
    assert message in errors


def test_a_missing_package_is_named(capsys, monkeypatch) -> None:
    for name in [one for one in sys.modules if one.startswith("prometheus_client")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("metrics", "exposition"):
        monkeypatch.delitem(sys.modules, f"shmfeed.observe.{name}", raising=False)
    monkeypatch.delattr("shmfeed.observe.exposition", raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    assert main(["metrics", "--port", "0"]) == 1
    assert capsys.readouterr().err == (
        "shmfeed: metrics need the package prometheus-client:"
        " pip install prometheus-client\n"
    )


def test_it_loads_no_feeder_and_no_codec(feed_name) -> None:
    text = (
        "import sys; from shmfeed.cli.main import main;"
        f"main(['metrics', '--once', '--feed', {feed_name!r}]);"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", text],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=os.environ,
    )
    loaded = set(done.stderr.split())
    assert "shmfeed.observe.exposition" in loaded
    unwanted = ("feeder", "wire", "codecs", "control", "manager", "settings")
    assert not [
        name
        for name in loaded
        if name.startswith(tuple(f"shmfeed.{n}" for n in unwanted))
    ]
