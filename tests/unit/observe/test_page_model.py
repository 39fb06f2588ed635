"""A page is sent rows once, and again when they change; nothing is unescaped."""

import json
from typing import Any

import pytest

from shmfeed.health import GOOD_HEALTHS, HEALTHS
from shmfeed.observe.page.model import PageModel, is_news, row_of
from shmfeed.observe.page.render import render_page
from shmfeed.observe.page.static_files import addresses, load_files
from shmfeed.observe.sample import FeedSample
from shmfeed.status import StreamStatus, status_without_feed

NOW = 1_700_000_000_000
URLS = addresses(load_files())


def stream(symbol: str = "BTCUSDT", **more: Any) -> StreamStatus:
    found: Any = {
        "symbol": symbol,
        "timeframe": "1m",
        "count": 5,
        "last_close_time": NOW - 500,
        "age": 0.5,
        "gaps": 0,
        "health": "live",
        "why": "",
        "messages": 1,
        "dropped": 0,
        "missed": 0,
    }
    return found | more


def sampled(feed: str, *streams: StreamStatus, **more: Any) -> FeedSample:
    status: Any = status_without_feed(feed) | {"streams": list(streams)} | more
    return FeedSample(feed, status, None)


def told(model: PageModel, version: int) -> Any:
    return json.loads(model.message_since(version))


def symbols(message: Any) -> dict[str, list[str]]:
    return {feed: [row[0] for row in rows] for feed, rows in message["rows"].items()}


class TestMessages:
    def test_a_new_page_is_told_everything(self) -> None:
        model = PageModel()
        closes: Any = {"a": {("BTCUSDT", "1m"): 7.5}}
        model.update([sampled("a", stream(), stream("ETHUSDT"))], closes, NOW)
        message = told(model, 0)
        assert (message["all"], message["now"]) == (True, NOW)
        first, second = message["rows"]["a"]
        assert first == ["BTCUSDT", "1m", "live", "", 7.5, NOW - 500, NOW - 500, 5, 0]
        assert second[4] is None
        assert message["feeds"][0]["feed"] == "a"

    def test_later_only_what_has_changed(self) -> None:
        model = PageModel()
        model.update([sampled("a", stream(), stream("ETHUSDT"))], {}, NOW)
        seen = model.version
        model.update([sampled("a", stream(), stream("ETHUSDT", count=6))], {}, NOW)
        assert symbols(told(model, seen)) == {"a": ["ETHUSDT"]}
        assert told(model, model.version)["rows"] == {}
        assert symbols(told(model, 0)) == {"a": ["BTCUSDT", "ETHUSDT"]}

    def test_a_slow_page_is_told_what_changed_meanwhile(self) -> None:
        model = PageModel()
        counts = [(5, 5), (6, 5), (6, 6), (6, 6)]
        versions = []
        for one, other in counts:
            rows = stream(count=one), stream("ETHUSDT", count=other)
            model.update([sampled("a", *rows)], {}, NOW)
            versions.append(model.version)
        assert symbols(told(model, versions[0])) == {"a": ["BTCUSDT", "ETHUSDT"]}
        assert symbols(told(model, versions[1])) == {"a": ["ETHUSDT"]}
        assert symbols(told(model, versions[2])) == {}

    @pytest.mark.parametrize(
        "after",
        [
            [sampled("a", stream())],
            [sampled("a", stream()), sampled("b")],
            [sampled("b", stream())],
            [],
        ],
    )
    def test_all_again_where_something_has_gone(self, after: list[FeedSample]) -> None:
        model = PageModel()
        before = [sampled("a", stream(), stream("ETHUSDT")), sampled("b", stream())]
        model.update(before, {}, NOW)
        seen = model.version
        model.update(after, {}, NOW)
        assert told(model, seen)["all"] is True
        assert told(model, model.version)["all"] is False

    def test_a_new_stream_is_a_change(self) -> None:
        model = PageModel()
        model.update([sampled("a", stream())], {}, NOW)
        seen = model.version
        model.update([sampled("a", stream(), stream("X")), sampled("b")], {}, NOW)
        message = told(model, seen)
        assert (message["all"], symbols(message)) == (False, {"a": ["X"]})
        assert [head["feed"] for head in message["feeds"]] == ["a", "b"]


class TestNews:
    def test_time_alone_is_none(self) -> None:
        """The age grows, the moment stays: a page computes ages."""
        old = row_of(stream(age=1.0), 1.0, NOW)
        new = row_of(stream(age=4.0), 1.0, NOW + 3000)
        assert not is_news(old, new, 1000)

    def test_an_update_is_after_a_step(self) -> None:
        old = row_of(stream(age=0.0), 1.0, NOW)
        for after, expected in (
            (999, False),
            (1000, True),
            (-999, False),
            (-1000, True),
        ):
            assert (
                is_news(old, row_of(stream(age=0.0), 1.0, NOW + after), 1000)
                is expected
            )

    @pytest.mark.parametrize(
        "more",
        [
            {"health": "stale"},
            {"why": "silent"},
            {"count": 6},
            {"gaps": 1},
            {"age": None},
        ],
    )
    def test_each_value_is(self, more: dict[str, Any]) -> None:
        old = row_of(stream(), 1.0, NOW)
        assert is_news(old, row_of(stream(**more), 1.0, NOW), 1000)
        assert is_news(old, row_of(stream(), 2.0, NOW), 1000)

    @pytest.mark.parametrize(
        ("why", "shown"),
        [
            ("no heartbeat of the feeder for 12.3 s", "no heartbeat of the feeder"),
            ("silent for 31.2 s, limit 30 s", "silent, limit 30 s"),
            ("silent for 31.2 s, limit 30.5 s", "silent, limit 30.5 s"),
            ("no bar yet, subscribed 3.1 s ago", "no bar yet, subscribed"),
            ("left out: no such symbol", "left out: no such symbol"),
        ],
    )
    def test_spans_that_grow_are_left_out_of_reasons(
        self, why: str, shown: str
    ) -> None:
        assert row_of(stream(why=why), None, NOW).why == shown

    def test_ages_of_many_streams_are_sent_less_often(self) -> None:
        for number, expected in ((300, 300), (301, 0)):
            names = [f"S{n}" for n in range(number)]
            model = PageModel()
            model.update([sampled("a", *map(stream, names))], {}, NOW)
            seen = model.version
            model.update([sampled("a", *map(stream, names))], {}, NOW + 2000)
            assert len(told(model, seen)["rows"].get("a", ())) == expected
            model.update([sampled("a", *map(stream, names))], {}, NOW + 6000)
            assert len(told(model, seen)["rows"]["a"]) == number


class TestHealth:
    @pytest.mark.parametrize("health", HEALTHS)
    def test_each_feed_counts(self, health: Any) -> None:
        model = PageModel()
        good, other = sampled("a", health="live"), sampled("b", health=health)
        model.update([good, other], {}, NOW)
        assert model.is_good() is (health in GOOD_HEALTHS)
        assert model.is_good(["a"])
        assert not model.is_good(["a", "c"])

    def test_none_is_not_good(self) -> None:
        assert not PageModel().is_good()


class TestTheDocument:
    def test_a_hostile_text_is_escaped(self) -> None:
        bad = "<script>alert(1)</script>\"'&"
        model = PageModel()
        row = stream(bad, why=bad, health=bad, timeframe=bad)
        facts = {"last_error": bad, "state": bad, "health": bad, "endpoint": bad}
        model.update([sampled(bad, row, **facts)], {}, NOW)
        text = render_page(model, URLS)
        assert "<script>" not in text
        assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27;&amp;") > 8

    def test_values_that_are_not_known(self) -> None:
        model = PageModel()
        model.update([sampled("a", stream(last_close_time=None, age=None))], {}, NOW)
        text = render_page(model, URLS)
        row = text.split("<tbody")[1].split("</tbody>")[0]
        assert row.count(">-</td>") == 3

    def test_no_feed(self) -> None:
        text = render_page(PageModel(), URLS)
        assert "<p>no feed</p>" in text
        assert '<p id="none">no stream</p>' in text
