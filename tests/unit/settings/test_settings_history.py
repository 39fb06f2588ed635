"""Settings of history and store: sources, addresses, shares, ages."""

from pathlib import Path

import pytest

from shmfeed.errors import BadArgumentError
from shmfeed.settings import model
from shmfeed.settings.loading import load
from shmfeed.settings.model import Settings

SOURCES = [
    ("auto", "auto"),
    ("OFF", "off"),
    (False, "off"),  # as YAML reads off
    ("binance:spot", "binance:spot"),
    ("binance:coinm", "binance:coinm"),
    ("bars.CSV", "bars.CSV"),
    (Path("/data/bars.parquet"), "/data/bars.parquet"),
    (["history", "--fast"], ("history", "--fast")),
]
NO_SOURCES = [
    *("", "binance", "binance:", "binance:options", "okx:spot", "bars.txt"),
    *([], [""], ["a", 1], ["a\0"], ["a"] * 257, 7, True, None.__class__, {"a": 1}),
    "a\0.csv",
]


class TestBackfill:
    @pytest.mark.parametrize(("value", "kept"), SOURCES)
    def test_sources(self, value, kept) -> None:
        settings = load({"backfill": value}, {})
        assert settings.backfill == kept
        assert model.from_json(model.to_json(settings)) == settings

    @pytest.mark.parametrize("value", NO_SOURCES)
    def test_others_are_refused(self, value) -> None:
        with pytest.raises(BadArgumentError, match="backfill"):
            load({"backfill": value}, {})

    @pytest.mark.parametrize(
        ("text", "kept"),
        [
            ("auto", "auto"),
            ("binance:usdm", "binance:usdm"),
            ('["history", "--fast"]', ("history", "--fast")),
        ],
    )
    def test_texts(self, text, kept) -> None:
        assert load({}, {"SHMFEED_BACKFILL": text}).backfill == kept

    @pytest.mark.parametrize("text", ["[", "[1]", "[]", "history --fast", "7"])
    def test_other_texts_are_refused(self, text) -> None:
        with pytest.raises(BadArgumentError, match="backfill"):
            load({}, {"SHMFEED_BACKFILL": text})

    @pytest.mark.parametrize(
        ("ending", "text"),
        [
            ("yaml", "backfill: [history, --fast]"),
            ("toml", 'backfill = ["history", "--fast"]'),
            ("json", '{"backfill": ["history", "--fast"]}'),
        ],
    )
    def test_commands_in_files(self, tmp_path, ending, text) -> None:
        path = tmp_path / f"a.{ending}"
        path.write_text(text)
        found = load({"config_file": path}, {}).backfill
        assert found == ("history", "--fast")


class TestRestEndpoint:
    def test_several(self) -> None:
        text = "https://a.example, HTTPS://b.example/v1"
        found = load({}, {"SHMFEED_REST_ENDPOINT": text}).rest_endpoint
        assert found == ("https://a.example", "https://b.example/v1")

    @pytest.mark.parametrize(
        "value", ["ws://a.example", "a.example", "https://u:p@a.example", "https://", 7]
    )
    def test_others_are_refused(self, value) -> None:
        with pytest.raises(BadArgumentError, match="rest_endpoint"):
            load({"rest_endpoint": value}, {})

    def test_plain_text_stays_on_this_host(self) -> None:
        assert Settings(rest_endpoint=("http://127.0.0.1:80",)).rest_endpoint
        with pytest.raises(BadArgumentError, match="allow_insecure"):
            Settings(rest_endpoint=("http://a.example",))
        assert Settings(rest_endpoint=("http://a.example",), allow_insecure=True)

    def test_a_key_in_it_is_not_shown(self) -> None:
        settings = Settings(rest_endpoint=("https://a.example/?key=verysecret",))
        assert "verysecret" not in repr(settings)
        assert settings.redact("got verysecret") == "got ***"


class TestAmounts:
    def test_warmup_is_the_history_at_first(self) -> None:
        assert Settings(history=77).warmup_bars == 77
        assert Settings(history=77, warmup=0).warmup_bars == 0

    @pytest.mark.parametrize("value", [0, -0.1, 1.01, "half", True])
    def test_a_share_is_a_part(self, value) -> None:
        with pytest.raises(BadArgumentError, match="rest_share"):
            load({"rest_share": value}, {})

    def test_days_by_timeframe(self) -> None:
        environ = {"SHMFEED_STORE_KEEP": "1m=30,1h=365", "SHMFEED_STORE": "a"}
        settings = load({}, environ)
        found = [settings.store_keep_of(timeframe) for timeframe in ("1m", "1h", "1d")]
        assert found == [30.0, 365.0, None]
        whole = load({"store_keep": 7, "store": "a"}, {})
        assert whole.store_keep_of("1m") == 7.0
        with pytest.raises(BadArgumentError, match="store_keep is of no use"):
            whole.with_values_of(Settings(), ["store"])

    def test_an_age_without_a_store_is_refused(self, tmp_path) -> None:
        path = tmp_path / "feed.json"
        path.write_text('{"store_keep": {"1m": 30}}')
        said = "store_keep is of no use: there is no store; give store too.* from"
        for arguments, environ in (
            ({"store_keep": 7}, {}),
            ({}, {"SHMFEED_STORE_KEEP": "7"}),
            ({"config_file": str(path)}, {}),
        ):
            with pytest.raises(BadArgumentError, match=said):
                load(arguments, environ)
            load(arguments | {"store": "a"}, environ)

    @pytest.mark.parametrize("value", [0, -1, {"7m": 1}, {"1m": 1e9}, {}])
    def test_other_ages_are_refused(self, value) -> None:
        with pytest.raises(BadArgumentError, match="store_keep"):
            load({"store_keep": value, "store": "a"}, {})
