"""`shmfeed config show`: values, sources, and secrets that never show."""

import json

import pytest

from shmfeed.cli.config import mask
from shmfeed.cli.main import main
from shmfeed.settings.schema import SETTINGS

pytest_plugins = ["support.command_process"]
pytestmark = pytest.mark.usefixtures("no_settings")

SECRET = "s3cr3t-v4lue"
HEADERS = f"Authorization: Bearer {SECRET}"


@pytest.fixture
def show(capsys):
    """Run it; return exit code, output and errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["config", "show", *arguments])
        return code, *capsys.readouterr()

    return run


def rows_of(text: str) -> dict[str, tuple[object, str]]:
    return {row["name"]: (row["value"], row["from"]) for row in json.loads(text)}


def test_each_setting_is_a_line(show) -> None:
    code, output, errors = show()
    assert (code, errors) == (0, "")
    names = [line.split()[0] for line in output.splitlines()]
    assert names == ["SETTING", *SETTINGS]
    assert output.splitlines()[1].split() == ["protocol", "wealthai", "default"]


def test_each_source_is_named(show, tmp_path, monkeypatch) -> None:
    path = tmp_path / "feed.toml"
    path.write_text("history = 50\nguard = 17\nmarket_type = 'm'\n")
    monkeypatch.setenv("SHMFEED_GUARD", "18")
    monkeypatch.setenv("WEBSOCKET_SYMBOLS", "A,B")
    monkeypatch.setenv("SHMFEED_CONFIG_FILE", str(path))
    found = rows_of(
        show("--resolutions", "1m,1h", "--stale-after", "1m=90", "--json")[1]
    )
    file, argument = f"file {path}", "argument --"
    assert found["config_file"] == (str(path), "environment SHMFEED_CONFIG_FILE")
    assert found["history"] == (50, file)
    assert found["market_type"] == ("m", file)
    assert found["guard"] == (18, "environment SHMFEED_GUARD")
    assert found["symbols"] == (["A", "B"], "environment WEBSOCKET_SYMBOLS")
    assert found["resolutions"] == (["1m", "1h"], f"{argument}resolutions")
    assert found["stale_after"] == ({"1m": 90.0}, f"{argument}stale-after")
    assert found["warmup"] == (None, "default")
    lines = show("--config", str(path), "--stale-after", "1m=90")[1].splitlines()
    assert lines[1].split() == ["config_file", str(path), "argument", "--config"]
    assert ["stale_after", "1m=90", "argument", "--stale-after"] in map(
        str.split, lines
    )


def with_secrets(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("WEBSOCKET_CSRF_TOKEN", SECRET)
    monkeypatch.setenv("SHMFEED_HEADERS", HEADERS)
    url = f"venue.example:9/{SECRET}?key={SECRET}"
    monkeypatch.setenv("WEBSOCKET_ENDPOINT", f"wss://{url}")
    monkeypatch.setenv("SHMFEED_REST_ENDPOINT", f"https://{url}")
    monkeypatch.setenv("SHMFEED_PROXY", f"http://{SECRET}@proxy.example:8")
    path = tmp_path / "feed.json"
    path.write_text(json.dumps({"backfill": ["/bin/echo", f"--key={SECRET}"]}))
    monkeypatch.setenv("SHMFEED_CONFIG_FILE", str(path))


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_no_secret_shows(show, form, tmp_path, monkeypatch) -> None:
    with_secrets(tmp_path, monkeypatch)
    code, output, errors = show(*form)
    assert (code, errors) == (0, "")
    assert SECRET not in output
    assert "venue.example:9/..." in output
    assert "proxy.example:8" in output
    assert "Authorization" in output


def test_without_the_mask_they_would(show, tmp_path, monkeypatch) -> None:
    """Control: the test above would see a secret."""
    with_secrets(tmp_path, monkeypatch)
    monkeypatch.setattr("shmfeed.cli.config.mask", lambda name, value: value)
    assert show("--json")[1].count(SECRET) >= 5


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("csrf_token", "", ""),
        ("csrf_token", "x", "***"),
        ("endpoint", ("wss://a.b:1", "wss://c/"), ["wss://a.b:1", "wss://c/"]),
        ("endpoint", ("wss://a/b",), ["wss://a/..."]),
        ("endpoint", ("wss://a?b=c",), ["wss://a/..."]),
        ("publish_to", "redis://u:p@h:1/0", "redis://h:1/..."),
        ("on_event", "https://hooks.example/T/B", "https://hooks.example/..."),
        ("on_event", ("curl", "-d", "x"), ["curl", "***", "***"]),
        ("backfill", "binance:spot", "binance:spot"),
        ("store", "/srv/bars.sqlite", "/srv/bars.sqlite"),
        ("history", 5, 5),
    ],
)
def test_masks(name, value, shown) -> None:
    assert mask(name, value) == shown


def test_a_setting_that_is_refused_is_exit_2(show, tmp_path) -> None:
    path = tmp_path / "feed.toml"
    path.write_text("histroy = 50\n")
    code, output, errors = show("--config", str(path))
    assert (code, output) == (2, "")
    assert f"unknown setting 'histroy' (from file {path})" in errors
    assert "'history'" in errors
    assert "history 0 is not accepted" in show("--history", "0")[2].replace("'", "")


@pytest.mark.parametrize("arguments", [[], ["shwo"]])
def test_other_words_than_show(arguments, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["config", *arguments])
    assert ended.value.code == 2
    assert "show" in capsys.readouterr().err
