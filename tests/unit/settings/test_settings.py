"""Settings: each source, the order of sources, and every kind of bad value."""

import json
import logging
import math
import os
import re
from pathlib import Path

import hypothesis.strategies as st
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings

from shmfeed.errors import BadArgumentError
from shmfeed.settings import loading, model, schema
from shmfeed.settings.endpoint import mask_secrets
from shmfeed.settings.loading import from_env, load
from shmfeed.settings.model import Settings, describe

CANARY = "s3cr3t-canary-token"


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def refusal(arguments, environ=None) -> str:
    with pytest.raises(BadArgumentError) as caught:
        load(arguments, environ or {})
    return str(caught.value)


class TestSources:
    def test_the_defaults_are_the_documented_ones(self):
        settings = load({}, {})
        assert settings == Settings()
        assert settings.protocol == "wealthai"
        assert settings.feed == "default"
        assert settings.market_type == "binance-testnet"
        assert settings.history == 1000
        assert settings.max_reconnect_attempts == 3
        assert settings.csrf_token == ""
        assert settings.endpoint == settings.port == settings.streams == ()

    def test_argument_beats_environment_beats_file_beats_default(self, tmp_path):
        file = write(tmp_path / "a.toml", "history=10\nguard=11\nmax_streams=12\n")
        environ = {"SHMFEED_HISTORY": "20", "SHMFEED_GUARD": "21"}
        settings = load({"history": 30, "config_file": file}, environ)
        assert (settings.history, settings.guard) == (30, 21)
        assert (settings.max_streams, settings.ack_timeout) == (12, 10.0)

    def test_every_variable_is_read(self):
        environ = {
            "WEBSOCKET_ENDPOINT": "wss://a.example:1/x, wss://b.example",
            "WEBSOCKET_CSRF_TOKEN": CANARY,
            "WEBSOCKET_MARKET_TYPE": "binance",
            "WEBSOCKET_SYMBOLS": "BTCUSDT, ETHUSDT,BTCUSDT,",
            "WEBSOCKET_RESOLUTIONS": "60m,1h,1M",
            "SHMFEED_PROTOCOL": "binance",
            "SHMFEED_FEED": "f",
            "SHMFEED_ALLOW_INSECURE": "Yes",
            "SHMFEED_DATA_TIMEOUT": "1.5e2",
            "SHMFEED_LOG_LEVEL": "debug",
            "SHMFEED_MAX_RECONNECT_ATTEMPTS": "none",
            "SHMFEED_BACKTEST": "1",
            "SHMFEED_COPY": "1",
            "SHMFEED_PURE": "1",
            "SHMFEED_TEST_DATA": "/x",
            "SHMFEED_FAIL": "x",
            "PATH": "/bin",
        }
        settings = load({}, environ)
        assert settings.endpoint == ("wss://a.example:1/x", "wss://b.example")
        assert settings.csrf_token == CANARY
        assert settings.symbols == ("BTCUSDT", "ETHUSDT")
        assert settings.resolutions == ("1h", "1M")
        assert settings.protocol == "binance"
        assert (settings.feed, settings.market_type) == ("f", "binance")
        assert settings.allow_insecure is True
        assert settings.data_timeout == 150.0
        assert settings.log_level == "DEBUG"
        assert settings.max_reconnect_attempts is None
        assert load(from_env(environ), {}) == settings

    def test_each_setting_has_one_variable(self):
        for setting in msgspec.structs.fields(Settings):
            assert setting.name in loading.VARIABLES.values()
        assert loading.VARIABLES["SHMFEED_PORT"] == "port"

    @pytest.mark.parametrize("variable", ["WEBSOCKET_PORT", "SHMFEED_PORT"])
    def test_ports_are_read_from_the_environment(self, variable):
        assert load({}, {variable: "18001, 18002"}).port == (18001, 18002)

    def test_two_variables_of_one_setting_must_agree(self):
        both = {"WEBSOCKET_PORT": "1", "SHMFEED_PORT": "1"}
        assert load({}, both).port == (1,)
        message = refusal({}, both | {"SHMFEED_PORT": "2"})
        assert "WEBSOCKET_PORT" in message
        assert "SHMFEED_PORT" in message

    def test_an_empty_variable_counts_as_absent(self):
        assert load({}, {"SHMFEED_HISTORY": "", "SHMFEED_TYPO": ""}) == Settings()

    def test_the_process_environment_is_the_default(self, monkeypatch):
        monkeypatch.setenv("SHMFEED_HISTORY", "77")
        assert load({}).history == 77
        assert from_env()["history"] == 77

    def test_none_counts_as_absent_except_where_it_means_for_ever(self):
        environ = {"SHMFEED_GUARD": "5", "SHMFEED_MAX_RECONNECT_ATTEMPTS": "5"}
        settings = load({"guard": None, "max_reconnect_attempts": None}, environ)
        assert settings.guard == 5
        assert settings.max_reconnect_attempts is None

    def test_an_overruled_bad_value_is_ignored(self):
        environ = {"SHMFEED_FEED": "off", "SHMFEED_HISTORY": "x"}
        settings = load({"feed": "f", "history": 5}, environ)
        assert (settings.feed, settings.history) == ("f", 5)

    def test_the_environment_can_name_a_config_file(self, tmp_path):
        file = write(tmp_path / "a.json", '{"history": 5}')
        environ = {"SHMFEED_CONFIG_FILE": str(file)}
        assert load({}, environ).history == 5
        assert from_env(environ) == {"config_file": str(file)}


class TestStaleAfter:
    """One span of time for all timeframes, or one by timeframe."""

    @pytest.mark.parametrize(
        ("value", "by_timeframe"),
        [
            (None, (None, None)),
            (90, (90.0, 90.0)),
            ({"1m": 90, "60m": 7200.5}, (90.0, 7200.5)),
            ({"1h": 10}, (None, 10.0)),
            ([["1m", 5]], (5.0, None)),
        ],
    )
    def test_arguments(self, value, by_timeframe) -> None:
        settings = load({"stale_after": value}, {})
        found = settings.stale_after_in("1m"), settings.stale_after_in("1h")
        assert found == by_timeframe
        assert model.from_json(model.to_json(settings)) == settings

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("90", 90.0),
            ("none", None),
            ("1m=90, 1h=7200", (("1m", 90.0), ("1h", 7200.0))),
        ],
    )
    def test_texts(self, text, value) -> None:
        assert load({}, {"SHMFEED_STALE_AFTER": text}).stale_after == value

    @pytest.mark.parametrize(
        ("ending", "text"),
        [
            ("yaml", "stale_after: {1m: 90, 1h: 7200}"),
            ("yaml", "stale_after:\n  1m: 90\n  1h: 7200"),
            ("toml", "[stale_after]\n1m = 90\n1h = 7200"),
            ("json", '{"stale_after": {"1m": 90, "1h": 7200}}'),
        ],
    )
    def test_files(self, tmp_path, ending, text) -> None:
        path = tmp_path / f"a.{ending}"
        path.write_text(text)
        found = load({"config_file": path}, {}).stale_after
        assert found == (("1m", 90.0), ("1h", 7200.0))

    @pytest.mark.parametrize(
        "value",
        [
            *(0, -1, math.nan, True, "", {}, [], {"1m": 0}, {"1m": "90"}, {"7m": 90}),
            *({"60m": 1, "1h": 1}, [["1m", 1, 2]], [1], {1: 1}, {"1m": {"1m": 1}}),
        ],
    )
    def test_others_are_refused(self, value) -> None:
        with pytest.raises(BadArgumentError, match="stale_after"):
            load({"stale_after": value}, {})

    @pytest.mark.parametrize(
        "text", ["1m", "1m=", "=90", "1m=90,1m=91", "1m=x", "7m=1"]
    )
    def test_other_texts_are_refused(self, text) -> None:
        with pytest.raises(BadArgumentError, match="stale_after"):
            load({}, {"SHMFEED_STALE_AFTER": text})

    @pytest.mark.parametrize(
        "text",
        [
            "stale_after: {1m: 90, 1m: 91}",
            "stale_after: {1m: [90]}",
            "stale_after: {1m: {1m: 1}}",
            "symbols: {1m: 90}",
        ],
    )
    def test_other_nesting_is_refused(self, tmp_path, text) -> None:
        path = tmp_path / "a.yaml"
        path.write_text(text)
        with pytest.raises(BadArgumentError, match=r"twice|neither a value nor a list"):
            load({"config_file": path}, {})


class TestFile:
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("a.yaml", "symbols: [BTCUSDT, ETHUSDT]\nhistory: 5\nguard: null\n"),
            ("a.yml", "symbols: BTCUSDT,ETHUSDT\nhistory: 5\n"),
            ("a.toml", 'symbols = ["BTCUSDT", "ETHUSDT"]\nhistory = 5\n'),
            ("a.JSON", '\ufeff{"symbols": ["BTCUSDT", "ETHUSDT"], "history": 5}'),
        ],
    )
    def test_each_type_of_file_is_read(self, tmp_path, name, text):
        settings = load({"config_file": str(write(tmp_path / name, text))}, {})
        assert settings.symbols == ("BTCUSDT", "ETHUSDT")
        assert settings.history == 5

    @pytest.mark.parametrize("name", ["a.yaml", "a.toml"])
    def test_a_file_of_comments_gives_nothing(self, tmp_path, name):
        assert load({"config_file": write(tmp_path / name, "# x\n")}, {}) == Settings()

    @pytest.mark.parametrize(
        ("name", "text", "word"),
        [
            ("a.ini", "", "ending"),
            ("a", "", "ending"),
            ("a.yaml", "- 1", "top level"),
            ("a.json", "[1]", "top level"),
            ("a.yaml", "history: 1\nhistory: 1", "twice"),
            ("a.json", '{"history": 1, "history": 1}', "twice"),
            ("a.toml", "history = 1\nhistory = 1", "twice"),
            ("a.yaml", "a: &a [1]\nb: [*a, *a]", "list of values"),
            ("a.yaml", "<<: {history: 1}", "list of values"),
            ("a.yaml", "history: !!python/name:os.system x", "well-formed"),
            ("a.yaml", "history: 2024-13-45", "well-formed"),
            ("a.yaml", 'history: !!int ""', "well-formed"),
            ("a.yaml", 'history: !!float ""', "well-formed"),
            ("a.yaml", "allow_insecure: !!bool x", "well-formed"),
            ("a.yaml", "history: !!timestamp x", "well-formed"),
            ("a.yaml", "[" * 5_000, "well-formed"),
            ("a.json", "[" * 100_000, "well-formed"),
            ("a.toml", "a = " + "[" * 100_000, "well-formed"),
            ("a.json", '{"history": ' + "9" * 6000 + "}", "well-formed"),
            ("a.json", "", "line 1, column 1"),
            ("a.toml", "history = \n", "line 1"),
            ("a.yaml", "x" * (1 << 20) + "y", "larger"),
            ("a.yaml", "histroy: 1", "'history'"),
            ("a.yaml", "? 1\n: 2", "unknown setting 1"),
            ("a.yaml", "symbols: [NO, BTCUSDT]", "False"),
            ("a.json", '{"connect_timeout": NaN}', "connect_timeout"),
            ("a.json", '{"history": true}', "history True"),
            ("a.json", '{"history": "5"}', "history '5'"),
            ("a.json", '{"config_file": "b.json"}', "unknown"),
        ],
    )
    def test_a_malformed_file_is_refused(self, tmp_path, name, text, word):
        file = write(tmp_path / name, text)
        message = refusal({"config_file": file})
        assert word in message
        assert str(file) in message
        assert len(message) < 2000

    def test_a_missing_or_irregular_file_is_refused(self, tmp_path):
        assert "No such file" in refusal({"config_file": tmp_path / "a.json"})
        os.mkfifo(tmp_path / "pipe.json")
        assert "regular" in refusal({"config_file": tmp_path / "pipe.json"})
        (tmp_path / "dir.json").mkdir()
        assert "regular" in refusal({"config_file": tmp_path / "dir.json"})
        assert "path of a file" in refusal({"config_file": 5})
        assert "null" in refusal({"config_file": "a\0.json"})
        assert "utf" not in refusal(
            {"config_file": self.binary(tmp_path / "b.json", b'{"feed": "\xff"}')}
        )

    @staticmethod
    def binary(path: Path, data: bytes) -> Path:
        path.write_bytes(data)
        return path

    def test_a_yaml_file_without_pyyaml_is_refused(self, tmp_path, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "yaml", None)
        message = refusal({"config_file": write(tmp_path / "a.yaml", "history: 1")})
        assert "PyYAML" in message

    @pytest.mark.parametrize(("mode", "warnings"), [(0o600, 0), (0o640, 1), (0o604, 1)])
    def test_a_token_that_others_may_read_is_warned_of(
        self, tmp_path, caplog, mode, warnings
    ):
        file = write(tmp_path / "a.toml", f'csrf_token = "{CANARY}"', mode)
        with caplog.at_level(logging.WARNING):
            assert load({"config_file": file}, {}).csrf_token == CANARY
        assert len(caplog.records) == warnings
        assert CANARY not in caplog.text

    def test_a_readable_file_without_a_token_is_not_warned_of(self, tmp_path, caplog):
        load({"config_file": write(tmp_path / "a.toml", "history = 1", 0o644)}, {})
        assert not caplog.records


BAD_VALUES = [
    *[("history", v) for v in (0, -1, 10_000_001, 1.0, True, "5", None, math.nan, [1])],
    *[("guard", v) for v in (0, False, 1.5)],
    *[("max_streams", v) for v in (0, 10_001)],
    *[("port", v) for v in (0, 65536, True, "x", [1, "2"], 1.0)],
    *[("connect_timeout", v) for v in (0, -1, math.nan, math.inf, True, "1", 86401)],
    *[("ack_timeout", v) for v in (0, 10**400)],
    *[("close_grace", v) for v in (-0.1, math.inf)],
    *[("data_timeout", v) for v in (0, -1, math.nan)],
    *[("heartbeat_interval", v) for v in (0, None)],
    *[("max_frame_bytes", v) for v in (0, 1 << 31)],
    *[("max_reconnect_attempts", v) for v in (0, -1, True)],
    *[("reconnect_delay_base", v) for v in (0, 61)],
    *[("allow_insecure", v) for v in (1, "yes", None)],
    *[("stop_with_manager", v) for v in (0, "")],
    *[("protocol", v) for v in ("Binance", "", 5, None)],
    *[("market_type", v) for v in ("", "a b", 5, "x" * 65)],
    *[("feed", v) for v in ("off", "OFF", "", "a/b", "../x", "x" * 33, 5, None)],
    *[("symbols", v) for v in (["a b"], [""], [1], 5, {"BTCUSDT"}, b"BTCUSDT")],
    *[("resolutions", v) for v in ("1H", ["1m", "7m"], 5, None)],
    *[("log_level", v) for v in ("LOUD", 10)],
    *[("log_file", v) for v in ("", "a\0b", 5)],
    *[("endpoint", v) for v in (5, [5], b"wss://h", "h:80", "http://h", "wss://")],
    *[
        ("endpoint", v)
        for v in ("wss://h:0", "wss://h:", "wss://h:99999", "wss://[::1")
    ],
    *[("endpoint", v) for v in ("wss://h/#x", "wss://h\\x", "wss://h /", "wss://é.x")],
    *[("csrf_token", v) for v in (5, None, "a\nb", " a", "x" * 4097, "\ud800")],
]


class TestTogether:
    MISSING = (
        "protocol 'binance' has no default market_type; give one of: spot usdm coinm"
        " testnet"
    )

    def test_binance_has_no_default_market(self, tmp_path):
        assert refusal({"protocol": "binance"}) == (
            f"{self.MISSING} (protocol from argument)"
        )
        file = write(tmp_path / "a.toml", "protocol = 'binance'")
        assert refusal({"config_file": file}).startswith(self.MISSING)
        assert refusal({}, {"SHMFEED_PROTOCOL": "binance"}).startswith(self.MISSING)

    @pytest.mark.parametrize("market", ["spot", "binance-spot", "testnet"])
    def test_its_market_may_come_from_any_source(self, market):
        environ = {"WEBSOCKET_MARKET_TYPE": market}
        assert load({"protocol": "binance"}, environ).market_type == market

    def test_two_symbols_in_one_spelling_are_refused(self):
        message = refusal({"symbols": ["A", "BTCUSDT", "btcUSDT"]})
        assert message == (
            "symbols 'BTCUSDT' and 'btcUSDT' differ in case alone; subscribe one of"
            " them (symbols from argument)"
        )
        settings = load({"symbols": ["A", "B"], "resolutions": ["1m"]}, {})
        with pytest.raises(BadArgumentError, match="'B' and 'b'"):
            settings.with_subscription(symbols=["B", "b"])

    def test_control_the_same_symbol_twice_counts_once(self):
        assert load({"symbols": ["A", "B", "A"]}, {}).symbols == ("A", "B")


class TestValues:
    @pytest.mark.parametrize(("name", "value"), BAD_VALUES)
    def test_a_bad_value_is_refused_with_name_and_value(self, name, value):
        with pytest.raises(BadArgumentError, match=name) as caught:
            Settings(**{name: value})
        if name not in ("csrf_token", "endpoint") and not isinstance(value, list):
            assert repr(value)[:15] in str(caught.value)

    @pytest.mark.parametrize(
        ("variable", "text"),
        [
            ("SHMFEED_HISTORY", "1_000"),
            ("SHMFEED_HISTORY", "\u0661"),
            ("SHMFEED_HISTORY", "1e3"),
            ("SHMFEED_HISTORY", "9" * 5000),
            ("SHMFEED_ALLOW_INSECURE", "maybe"),
            ("SHMFEED_CONNECT_TIMEOUT", "nan"),
            ("SHMFEED_CONNECT_TIMEOUT", "inf"),
            ("SHMFEED_CONNECT_TIMEOUT", "1e999"),
            ("SHMFEED_FEED", "off"),
            ("WEBSOCKET_PORT", "80 81"),
            ("WEBSOCKET_RESOLUTIONS", "1m,x"),
        ],
    )
    def test_a_bad_text_is_refused_with_its_variable(self, variable, text):
        message = refusal({}, {variable: text})
        assert f"(from environment {variable})" in message
        assert len(message) < 1000

    def test_a_message_names_what_is_accepted_and_the_source(self, tmp_path):
        assert refusal({"history": 0}) == (
            "history 0 is not accepted; an integer from 1 to 10000000 (from argument)"
        )
        file = write(tmp_path / "a.toml", "resolutions = ['7m']")
        message = refusal({"config_file": file})
        assert "resolutions: timeframe '7m'" in message
        assert "15m" in message
        assert f"(from file {file})" in message

    @pytest.mark.parametrize(
        ("arguments", "environ", "unknown", "near"),
        [
            ({"histroy": 1}, {}, "histroy", "'history'"),
            ({"Symbol": 1}, {}, "Symbol", "'symbols'"),
            ({"": 1}, {}, "''", "nearest"),
            ({5: 1}, {}, "5", "nearest"),
            ({}, {"SHMFEED_HISTROY": "1"}, "SHMFEED_HISTROY", "'SHMFEED_HISTORY'"),
            ({}, {"SHMFEED_symbols": "1"}, "SHMFEED_symbols", "'WEBSOCKET_SYMBOLS'"),
            (
                {},
                {"SHMFEED_CSRF_TOKEN": CANARY},
                "SHMFEED_CSRF_TOKEN",
                "'WEBSOCKET_CSRF_TOKEN'",
            ),
        ],
    )
    def test_an_unknown_setting_is_answered_with_the_nearest(
        self, arguments, environ, unknown, near
    ):
        message = refusal(arguments, environ)
        assert unknown in message
        assert near in message
        assert CANARY not in message

    @pytest.mark.parametrize("make", [Settings, lambda **given: load(given, {})])
    def test_a_protocol_may_have_no_default_market(self, make):
        assert make(protocol="wealthai").market_type == "binance-testnet"
        assert make(protocol="binance", market_type="usdm").market_type == "usdm"
        with pytest.raises(BadArgumentError, match="spot usdm coinm testnet"):
            make(protocol="binance")
        with pytest.raises(BadArgumentError, match="protocol"):
            make(protocol=["binance"])

    def test_the_accepted_forms_of_a_value(self, tmp_path):
        settings = Settings(
            symbols="BTCUSDT,ETHUSDT",
            resolutions=["1h", "60m"],
            endpoint="WSS://h/x",
            port=80,
            history=np.int64(5),
            connect_timeout=np.float32(0.5),
            log_file=tmp_path / "x.log",
            data_timeout="none",
        )
        assert settings.symbols == ("BTCUSDT", "ETHUSDT")
        assert settings.resolutions == ("1h",)
        assert settings.endpoint == ("wss://h/x",)
        assert settings.port == (80,)
        assert type(settings.history) is int
        assert type(settings.connect_timeout) is float
        assert settings.log_file == str(tmp_path / "x.log")
        assert settings.data_timeout is None

    def test_conflicts_name_both_origins(self):
        environ = {"WEBSOCKET_ENDPOINT": "wss://h:18000"}
        message = refusal({"port": [18001]}, environ)
        assert "port 18000" in message
        assert "endpoint from environment WEBSOCKET_ENDPOINT" in message
        assert "port from argument" in message
        assert load({"port": [18001, 18000]}, environ).port == (18001, 18000)
        delays = {"reconnect_delay_base": 9, "reconnect_delay_max": 8}
        assert "reconnect_delay_max 8 is less" in refusal(delays)

    @pytest.mark.parametrize(
        "host",
        ["h", "10.0.0.1", "0.0.0.0", "127.1", "localhost.evil.example", "[::2]"],
    )
    def test_plain_text_beyond_this_host_is_refused(self, host):
        assert "allow_insecure" in refusal({"endpoint": f"ws://{host}:1/x"})
        load({"endpoint": f"ws://{host}:1/x", "allow_insecure": True}, {})

    @pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".example", "-a", ".a", "a.."])
    def test_a_host_with_invalid_labels_is_refused(self, host):
        # TLS refuses to ask for one, with an error of its own kind.
        assert "its host" in refusal({"endpoint": f"wss://{host}/x"})

    @pytest.mark.parametrize("host", ["x" * 63 + ".example", "a.", "_a.b-c", "1.2.3"])
    def test_a_host_with_unusual_labels_is_accepted(self, host):
        assert load({"endpoint": f"wss://{host}/x"}, {})
        assert host.encode("idna")

    @pytest.mark.parametrize(
        "host", ["localhost", "127.0.0.1", "127.3.2.1", "[::1]", "[::ffff:127.0.0.1]"]
    )
    def test_plain_text_to_this_host_is_accepted(self, host):
        assert load({"endpoint": f"ws://{host}:1"}, {}).endpoint == (f"ws://{host}:1",)


class TestStreams:
    def test_the_order_of_streams_and_the_planned_capacity(self):
        settings = Settings(symbols=["B", "A"], resolutions=["1h", "1m"])
        assert settings.streams == (("B", "1h"), ("B", "1m"), ("A", "1h"), ("A", "1m"))
        assert settings.planned_streams == 16
        many = Settings(symbols=[f"S{i}" for i in range(9)], resolutions="1m,1h")
        assert many.planned_streams == 36
        full = Settings(symbols=[f"S{i}" for i in range(5000)], resolutions="1m,1h")
        assert full.planned_streams == 10_000
        assert Settings(max_streams=3).planned_streams == 3

    def test_too_many_streams_are_refused(self):
        symbols = [f"S{i}" for i in range(5001)]
        with pytest.raises(
            BadArgumentError, match="10002 streams; a feed has at most 10000"
        ):
            Settings(symbols=symbols, resolutions="1m,1h")
        with pytest.raises(BadArgumentError, match="at most 10000"):
            Settings(symbols=[f"S{i}" for i in range(10_001)])
        with pytest.raises(BadArgumentError, match="max_streams 1:"):
            Settings(symbols="A,B", resolutions="1m", max_streams=1)

    def test_a_copy_can_have_another_subscription(self):
        before = Settings(symbols="A", resolutions="1m", history=7)
        assert before.with_subscription(["B"], ["60m"]) == Settings(
            symbols="B", resolutions="1h", history=7
        )
        assert before.with_subscription(symbols=["B"]).resolutions == ("1m",)
        assert before.with_subscription(symbols=[]).streams == ()
        assert before.symbols == ("A",)
        with pytest.raises(BadArgumentError, match="symbols"):
            before.with_subscription(["a b"], None)


class TestSecrets:
    SECRET_URL = f"wss://user:{CANARY}@h/x"

    def test_no_repr_shows_the_token(self):
        settings = Settings(csrf_token=CANARY, endpoint=f"wss://h/x?key={CANARY}")
        rich = list(settings.__rich_repr__())
        texts = [repr(settings), str(settings), f"{settings}", str(rich)]
        texts += [repr(describe(settings)), repr([settings])]
        assert not [text for text in texts if CANARY in text]
        assert "csrf_token" not in describe(settings)
        assert settings.endpoint[0].endswith(CANARY)
        # Control: what the rule is for does show it.
        assert CANARY in repr(msgspec.structs.asdict(settings))

    def test_the_dict_of_the_environment_hides_the_token(self):
        found = from_env({"WEBSOCKET_CSRF_TOKEN": CANARY})
        assert CANARY not in repr(found)
        assert found["csrf_token"] == CANARY
        assert type(load(found, {}).csrf_token) is str

    @pytest.mark.parametrize(
        "arguments",
        [
            {"csrf_token": f"\n{CANARY}"},
            {"csrf_token": [CANARY]},
            {"csrf_token": CANARY.encode()},
            {"csrf_tokn": CANARY},
            {"csrf_token": CANARY, "history": 0},
            {"endpoint": SECRET_URL},
            {"endpoint": [SECRET_URL, 5]},
            {"endpoint": {"url": SECRET_URL}},
            {"endpoint": SECRET_URL.encode()},
            {"endpoint": f"wss://user:{CANARY}/,?#x@h"},
            {"endpoint": f"wss://h:1?key={CANARY}", "port": 2},
            {"endpoint": f"ws://h:1/?key={CANARY}"},
            {"endpoint": f"http://h:1/?key={CANARY}"},
        ],
    )
    def test_no_message_shows_a_secret(self, arguments):
        assert CANARY not in refusal(arguments)

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("a.yaml", "csrf_token: @{}"),
            ("a.yaml", "csrf_token: *{}"),
            ("a.yaml", "csrf_token: !{} x"),
            ("a.yaml", "csrf_token: !!bool {}"),
            ("a.yaml", "csrf_token: [{}]"),
            ("a.yaml", "csrf_token: {}\nfeed: ["),
            ("a.yaml", "{}"),
            ("a.toml", "csrf_token = {}"),
            ("a.toml", "csrf_token = '{}"),
            ("a.json", '{{"csrf_token": "{}}}'),
            ("a.json", '{{"csrf_token": {{"x": "{}"}}}}'),
        ],
    )
    def test_no_message_about_a_file_shows_a_secret(self, tmp_path, name, text):
        file = write(tmp_path / name, text.format(CANARY))
        assert CANARY not in refusal({"config_file": file})

    def test_json_carries_the_token_and_its_errors_do_not(self):
        settings = Settings(csrf_token=CANARY, symbols="A", resolutions="1m", guard=3)
        data = model.to_json(settings)
        assert CANARY in data.decode()
        assert model.from_json(data) == settings
        cut, typed = data[:-1], json.dumps({"csrf_token": [CANARY]}).encode()
        wrong = json.dumps({"csrf_token": CANARY, "history": 0}).encode()
        unknown = b'{"histroy": 1}'
        for bad in (
            cut,
            typed,
            wrong,
            unknown,
            b"",
            b"[]",
            b"\xff",
            b"[" * 100_000,
            b'{"feed": "\xff"}',
        ):
            with pytest.raises(BadArgumentError) as caught:
                model.from_json(bad)
            assert CANARY not in str(caught.value)


class TestOptions:
    def test_every_setting_but_the_secrets_is_an_option(self):
        names = {field.name for field in msgspec.structs.fields(Settings)}
        secret = {"csrf_token", "headers", "redis_password"}
        assert {option.setting for option in schema.OPTIONS} == names - secret
        for _, kind, text in schema.OPTIONS:
            assert kind in (int, float, bool, str, tuple)
            assert text
            assert "%" not in text

    def test_option_texts_become_arguments(self):
        options = {
            "history": "5",
            "symbols": "A,B",
            "port": "1,2",
            "allow_insecure": True,
            "max_reconnect_attempts": "none",
            "guard": None,
            "command": "run",
            "csrf_token": CANARY,
        }
        arguments = loading.from_options(options)
        assert arguments == {
            "history": 5,
            "symbols": ("A", "B"),
            "port": (1, 2),
            "allow_insecure": True,
            "max_reconnect_attempts": None,
        }
        assert load(arguments, {}).max_reconnect_attempts is None
        assert load(loading.from_options({"max_reconnect_attempts": None}), {}) == (
            Settings()
        )

    def test_an_error_names_the_option(self):
        with pytest.raises(BadArgumentError, match=re.escape("(from --max-streams)")):
            loading.from_options({"max_streams": "many"})


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=5)
    | st.sampled_from(["1m", "BTCUSDT", "wss://h:1/x", "ws://[::1]", "none", "off"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
NAMES = st.sampled_from([field.name for field in msgspec.structs.fields(Settings)])


class TestGarbage:
    @settings(deadline=None)
    @given(st.dictionaries(NAMES | st.text(max_size=8), VALUES, max_size=4))
    def test_any_arguments_are_loaded_or_refused(self, arguments):
        try:
            settings = load(arguments, {})
        except BadArgumentError:
            return
        assert model.from_json(model.to_json(settings)) == settings
        assert load(msgspec.structs.asdict(settings), {}) == settings

    @settings(deadline=None)
    @given(
        st.dictionaries(
            st.sampled_from([*loading.VARIABLES]) | st.text(max_size=12),
            st.text(max_size=30)
            | st.sampled_from(["1", "on", "wss://h", "1m", "none"]),
            max_size=4,
        )
    )
    def test_any_environment_is_loaded_or_refused_in_a_short_message(self, environ):
        try:
            message = repr(load({}, environ))
        except BadArgumentError as error:
            message = str(error)
        assert len(message) < 1500

    @settings(deadline=None)
    @given(st.binary(max_size=200), st.sampled_from(["yaml", "toml", "json"]))
    def test_any_file_is_loaded_or_refused_with_its_name(
        self, tmp_path_factory, data, ending
    ):
        file = tmp_path_factory.getbasetemp() / f"garbage.{ending}"
        file.write_bytes(data)
        try:
            message = repr(load({"config_file": file}, {}))
        except BadArgumentError as error:
            message = str(error)
        assert message.startswith("Settings(") or str(file) in message


def test_secrets_that_begin_alike_are_masked_whole():
    secrets = ["eyJhbGciOiJI.first", "eyJhbGciOiJI.second-one"]
    for order in (secrets, secrets[::-1]):
        text = f"{secrets[0]} or {secrets[1]}, and {secrets[1][:10]}"
        assert mask_secrets(text, order) == "*** or ***, and ***"
    assert mask_secrets("nothing secret", ["", *secrets]) == "nothing secret"
