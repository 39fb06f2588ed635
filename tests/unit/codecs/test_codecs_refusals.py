import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmfeed.codecs.refusals import named_symbols, redact_message

ASKED = ("BTCUSDT", "ETHUSDT", "BTC", "IS", "NOPE", "BTC-USDT", "BTC/USD")


class TestNamedSymbols:
    @pytest.mark.parametrize(
        ("message", "named"),
        [
            ("unknown symbol NOPE", ["NOPE"]),
            ("unknown symbol 'nope'.", ["NOPE"]),
            ("NOPE: not found", ["NOPE"]),
            ("symbol:NOPE", ["NOPE"]),
            ("NOPE:unknown", ["NOPE"]),
            ("[BTCUSDT,ETHUSDT] are delisted", ["BTCUSDT", "ETHUSDT"]),
            ("ETHUSDT and BTCUSDT are delisted", ["BTCUSDT", "ETHUSDT"]),
            ('{"symbols":["NOPE","BTC"]}', ["BTC", "NOPE"]),
            ("BTC-USDT is unknown", ["BTC-USDT"]),
            ("no such pair: BTC/USD", ["BTC/USD"]),
            ("bad stream btcusdt@kline_1m", ["BTCUSDT"]),
            ("bad: btcusdt@kline_1m/ethusdt@kline_1h", ["BTCUSDT", "ETHUSDT"]),
            ("there is no symbol: ethusdt", ["ETHUSDT"]),
            ("NOPE? did you mean BTC?", ["NOPE"]),
            ("NOPE is not supported; supported: BTC ETHUSDT", ["NOPE"]),
            ("not supported: NOPE", ["NOPE"]),
            ("available symbols: BTC", []),
            ("unknown symbol X, did you mean BTC?", []),
            ("symbol X is unknown (known: BTC, ETHUSDT)", []),
            ("symbol must be one of BTC, NOPE", []),
            ("the limit is reached; allowed: BTC", []),
            ("you may ask for BTC and NOPE only", []),
            ("only BTC and ETHUSDT are served", []),
            ("expected one of [BTC,ETHUSDT], got NOPE", ["NOPE"]),
            ("valid symbols: BTC, ETHUSDT (got NOPE)", ["NOPE"]),
            ("Available symbols: BTC. Rejected: NOPE", ["NOPE"]),
            ("invalid symbol NOPE. Supported are BTC, ETHUSDT", ["NOPE"]),
            ("NOPE is not among BTC, ETHUSDT", ["NOPE"]),
            ("try BTC instead of NOPE", ["NOPE"]),
            ('{"symbol":"NOPE","accepted":["BTC","ETHUSDT"]}', ["NOPE"]),
            ("NOPE is no longer available", ["NOPE"]),
            ("nothing valid: NOPE", ["NOPE"]),
            ("THE TOKEN IS BAD", []),
            ("unknown symbol 'IS'", ["IS"]),
            ("XBTC BTCX BTC_ ÄBTC BTC-X", []),
            ("csrf_token is not accepted", []),
            ("", []),
        ],
    )
    def test_the_words_of_a_refusal_name_symbols(self, message, named):
        assert named_symbols(message, ASKED) == tuple(named)

    def test_a_field_that_names_symbols_counts_alone(self):
        words = "unknown symbol; you have ETHUSDT"
        assert named_symbols(words, ASKED, "BTC NOPE") == ("BTC", "NOPE")
        assert named_symbols(words, ASKED, "IS") == ("IS",)
        assert named_symbols(words, ASKED, "another") == ("ETHUSDT",)

    def test_the_case_of_the_subscription_counts_first(self):
        asked = ["btc", "BTC"]
        assert named_symbols("unknown: BTC", asked) == ("BTC",)
        assert named_symbols("unknown: 'Btc'", asked) == ("btc", "BTC")

    @given(
        st.sets(st.text(string.ascii_uppercase, min_size=5, max_size=9)),
        st.integers(0, 9),
    )
    def test_a_symbol_is_named_as_a_whole_word_alone(self, asked, count):
        bad = sorted(asked)[:count]
        assert set(named_symbols("no: " + ", ".join(bad), asked)) == set(bad)
        within = "no: " + ", ".join(f"{symbol}4711" for symbol in bad)
        assert named_symbols(within, asked) == ()


class TestRedaction:
    def test_each_secret_is_masked_the_longest_first(self):
        secrets = ["abcd", "abcd/efgh", ""]
        assert redact_message(r"x abcd\/efgh abcd y", secrets) == "x *** *** y"

    def test_a_secret_in_json_is_masked_too(self):
        secret = 'abcd"\\efgh'
        for text in (secret, json.dumps([secret]), json.dumps({secret: 1})):
            assert "efgh" not in redact_message(text, [secret])
            assert "***" in redact_message(text, [secret])

    def test_control_a_message_without_secrets_stays(self):
        assert redact_message("x abcd y", ["efgh"]) == "x abcd y"
