"""Faults of REST and of the venue's bars, as a client sees them."""

import http.client
import json
import time

import pytest
from support.rest import bar_of, get, get_on, rest_connection
from support.venue_client import client, receive

from shmfeed.errors import BadArgumentError
from shmfeed.simulator import Venue

MINUTE = 60_000
START = 1_700_000_040_000  # on the minute


@pytest.fixture
def venue():
    options = {"protocol": "binance", "symbols": "A,B", "speed": None}
    with Venue(**options, start=START + 90_000) as venue:
        yield venue


def klines(venue, **params):
    asked = {"symbol": "A", "interval": "1m", "limit": 10, "endTime": START} | params
    return get(venue, "/api/v3/klines", **asked)


def opens(rows):
    return [row[0] for row in rows]


def under(venue, faults, **params):
    """Return the answer without faults, and the one with these."""
    venue.set_faults("")
    whole = klines(venue, **params).json
    venue.set_faults(faults)
    return whole, klines(venue, **params)


@pytest.mark.parametrize(
    ("fault", "status", "wait"),
    [
        ("rest-status:429:30s", 429, "30"),
        ("rest-status:429", 429, None),
        ("rest-status:418:2m", 418, "120"),
        ("rest-status:503", 503, None),
        ("rest-redirect", 302, None),
        ("rest-redirect:307:same", 307, None),
    ],
)
def test_a_status_in_place_of_rows(venue, fault, status, wait):
    venue.set_faults(fault)
    answer = klines(venue)
    assert (answer.status, answer.headers["Retry-After"]) == (status, wait)
    assert venue.rest_requests[-1].status == status
    if "redirect" in fault:
        target = answer.headers["Location"]
        assert target.startswith("/api" if "same" in fault else "http://elsewhere.")
        assert "symbol=A" in target
    else:
        code = -1003 if status < 500 else -1001
        assert answer.json["code"] == code


@pytest.mark.parametrize("fault", ["rest-away", "rest-cut"])
def test_a_connection_that_ends_without_the_whole_answer(venue, fault):
    venue.set_faults(fault)
    with pytest.raises((ConnectionError, http.client.IncompleteRead)):
        klines(venue)
    if fault == "rest-away":
        assert venue.rest_requests[-1].status == 0
    with client(venue, "/ws"):
        pass  # the socket lives
    venue.set_faults("")
    assert klines(venue).status == 200


def test_bodies_that_are_not_the_rows(venue):
    whole, truncated = under(venue, "rest-truncated")
    assert truncated.status == 200
    with pytest.raises(ValueError, match=r"."):
        truncated.json  # noqa: B018  # parses the body
    assert json.dumps(whole, separators=(",", ":")).startswith(truncated.body.decode())
    _, html = under(venue, "rest-html")
    assert html.headers["Content-Type"] == "text/html"
    assert html.body.startswith(b"<!DOCTYPE html>")
    whole, huge = under(venue, "rest-huge:1MiB")
    assert len(huge.body) == 1 << 20
    assert huge.json == whole
    assert under(venue, "rest-empty")[1].json == []


def test_answers_that_come_late_or_never(venue):
    venue.set_faults("rest-slow:300ms")
    began = time.monotonic()
    assert klines(venue).status == 200
    assert time.monotonic() - began >= 0.3
    venue.set_faults("rest-hang")
    with rest_connection(venue) as connection:
        connection.timeout = 0.3
        with pytest.raises(TimeoutError):
            get_on(connection, "/api/v3/time")


def test_the_header_says_that_others_used_weight(venue):
    used = klines(venue).headers["X-MBX-USED-WEIGHT-1M"]
    venue.set_faults("rest-used:3500")
    later = klines(venue).headers["X-MBX-USED-WEIGHT-1M"]
    assert int(later) in {int(used) + 3502, 3502}  # the minute may have ended


def test_rows_in_a_wrong_order_or_number(venue):
    rows, mixed = under(venue, "rest-unordered")
    assert mixed.json != rows
    assert sorted(mixed.json) == rows
    rows, doubled = under(venue, "rest-doubled")
    assert doubled.json == [row for row in rows for _ in range(2)]
    rows, overlapping = under(venue, "rest-overlap")
    assert overlapping.json[::2] == rows
    assert opens(overlapping.json[1::2]) == [one + MINUTE // 2 for one in opens(rows)]
    rows, shifted = under(venue, "rest-grid")
    assert opens(shifted.json) == [one + MINUTE // 2 for one in opens(rows)]
    rows, older = under(venue, "rest-behind:10m", endTime=START + MINUTE)
    assert opens(rows)[-1] == START + MINUTE
    assert opens(older.json)[-1] == START - 10 * MINUTE
    rows, forming = under(venue, "rest-forming")
    assert forming.json[:-1] == rows
    assert forming.json[-1][0] == START + MINUTE
    rows, again = under(venue, "rest-forming", endTime=START + MINUTE)
    assert opens(again.json) == opens(rows)


def test_prices_of_another_market(venue):
    rows, other = under(venue, "rest-prices:1.01")
    for row, wrong in zip(rows, other.json, strict=True):
        assert float(wrong[1]) == pytest.approx(float(row[1]) * 1.01)
        assert wrong[5:] == row[5:]


def test_rubbish_has_many_forms(venue):
    venue.set_faults("rest-rubbish")
    kinds = set()
    for _ in range(60):
        found = klines(venue).json
        if isinstance(found, dict):
            kinds.add("object")
            continue
        damaged = [row for row in found if len(row) != 12]
        kinds.add("short" if damaged else "row")
        kinds.update(str(row[1]) for row in found if row[1] == "NaN")
        kinds.update("negative" for row in found if len(row) > 5 and row[5] == "-1")
        kinds.update("type" for row in found if row[3] is None)
    assert {"object", "short", "row", "NaN", "negative", "type"} <= kinds


def test_a_share_of_the_requests(venue):
    venue.set_faults("rest-status:500:0.5")
    statuses = [klines(venue).status for _ in range(40)]
    assert 5 < statuses.count(500) < 35
    venue.set_faults("rest-status:500@0+0.01,rest-status:502@3600")
    time.sleep(0.02)
    assert klines(venue).status == 200


def test_the_venue_lacks_bars_everywhere_the_same():
    options = {"protocol": "binance", "symbols": "A", "speed": 600, "history": 60}
    with Venue(**options, faults="hole:0.3") as venue:
        sent = set()
        for _ in range(2):
            with client(venue, "/ws/a@kline_1m") as connection:
                seen = [receive(connection)["k"]["t"] for _ in range(45)]
            now = max(seen)
            rows = klines(venue, limit=1000, startTime=min(seen), endTime=now).json
            truth = venue.truth("A", "1m", min(seen), now)
            assert sorted(set(seen)) == opens(rows)
            assert [one.open_time for one in truth] == opens(rows)[: len(truth)]
            assert len(set(seen)) < (max(seen) - min(seen)) // MINUTE
            sent.update(seen)
        venue.set_faults("")  # the control: without the fault none is missing
        rows = klines(venue, limit=1000, startTime=min(sent), endTime=max(sent)).json
        assert len(rows) > len(sent)


def test_rest_lacks_what_the_socket_sends(venue):
    rows, fewer = under(venue, "rest-lacks:0.5", limit=200)
    assert 40 < len([row for row in fewer.json if row in rows]) <= 200
    assert len(fewer.json) == 200
    assert opens(fewer.json)[0] < opens(rows)[0]
    venue.set_faults("rest-lacks@1ms")  # of the bars that close from now on
    assert klines(venue, limit=200).json == rows


def test_rest_corrects_what_the_socket_closed_and_truth_knows_it(venue):
    rows, corrected = under(venue, "rest-corrects:0.3", limit=100)
    changed = [a for a, b in zip(rows, corrected.json, strict=True) if a != b]
    assert 10 < len(changed) < 60
    truth = venue.truth("A", "1m", opens(rows)[0], START)
    assert [bar_of(row) for row in corrected.json] == [tuple(one[:8]) for one in truth]
    rows, early = under(venue, "rest-corrects:45s", limit=100, endTime=START)
    same = [a == b for a, b in zip(rows, early.json, strict=True)]
    assert same == [False] * 99 + [True]  # the last one closed 30 s ago
    final = venue.truth("A", "1m", START, START)
    assert tuple(final[0][:8]) != bar_of(rows[-1])


def test_a_symbol_that_does_not_trade():
    options = {"protocol": "binance", "symbols": "A,B", "speed": 600}
    with Venue(**options) as venue:
        with client(venue, "/stream?streams=a@kline_1m/b@kline_1m") as connection:
            receive(connection)
            venue.set_faults("halt:A")
            halted = venue.now()
            while receive(connection)["data"]["k"]["t"] < halted + 5 * MINUTE:
                pass
            heard = {receive(connection)["data"]["s"] for _ in range(20)}
            assert heard == {"B"}
        for path, name, status in (
            ("/api/v3", "status", "BREAK"),
            ("/fapi/v1", "status", "CLOSE"),
            ("/dapi/v1", "contractStatus", "CLOSE"),
        ):
            found = get(venue, f"{path}/exchangeInfo").json["symbols"]
            assert [one[name] for one in found] == [status, "TRADING"]
        after = {"startTime": halted, "endTime": halted + 3 * MINUTE}
        assert klines(venue, **after).json == []
        assert len(klines(venue, **after, symbol="B").json) == 3
        assert venue.truth("A", "1m", halted, halted + 3 * MINUTE) == []
        venue.set_faults("")
        found = get(venue, "/api/v3/exchangeInfo").json["symbols"]
        assert [one["status"] for one in found] == ["TRADING"] * 2


def test_faults_of_rest_need_rest():
    for options in ({}, {"protocol": "binance", "rest": False}):
        with pytest.raises(BadArgumentError, match="faults rest-away need REST"):
            Venue(faults="rest-away", **options)
        Venue(faults="hole:0.1", **options)
