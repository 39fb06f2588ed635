"""A user's program with every public call. A type checker accepts it; it never runs."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import date, datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import shmfeed
import shmfeed.aio
import wealthdata
from shmfeed import (
    Bar,
    ConnectionStatus,
    Feed,
    FeedStatus,
    FeedWriter,
    Field,
    Health,
    RelayStatus,
    Ring,
    RingStatus,
    RingWriter,
    Rows,
    SettingsArguments,
    Slice,
    State,
    StreamKey,
    StreamStatus,
    Timeframe,
    TimeframeAlias,
    WebSocketManager,
)


def compile_flags() -> list[str]:
    include: str = shmfeed.get_include()
    return [f"-I{include}"]


def read() -> float:
    with shmfeed.attach("default", timeout=5.0) as feed:
        keys: list[StreamKey] = feed.streams()
        rings: list[Ring] = [feed.ring(*key) for key in keys]
        rings.append(feed.ring("BTCUSDT", "60m"))
        ring = rings[0]
        window: Slice = ring.view(20)
        close: NDArray[np.float64] = window["close"]
        highs = window.values[1] + window.floats[1]
        times: NDArray[np.int64] = window.close_time - window.open_time
        private: Rows = ring.snapshot(20, include_now=True)
        kept: Rows = window.copy()
        last: Bar | None = ring.forming()
        cut: shmfeed.Cut = shmfeed.cut(rings, 20, ("open", "money"), align=False)
        tables: NDArray[np.float64] = cut.values
        moments: NDArray[np.int64] = shmfeed.cut(iter(rings), 20, "close").close_time
        without: list[Ring] = cut.missing
        kept_apart: int = shmfeed.kept_bytes()
        why: list[str] = shmfeed.flag_names(int(window["flags"][-1]))
        holes: list[shmfeed.Hole] = [*feed.gaps(), *feed.gaps("BTCUSDT", "60m")]
        with shmfeed.lease("BTCUSDT", ["1m"], feed=None, timeout=5) as held:
            is_held: bool = held.is_held
        claim: shmfeed.Lease = shmfeed.lease(["BTCUSDT", "ETHUSDT"], "60m")
        print(is_held, claim.symbols)
        lost: int = sum(hole.missing for hole in holes if hole.state == "given_up")
        print(lost, tables.shape, moments.shape, without, kept_apart, why)
        if window.valid and private.valid and kept.last > kept.first and last:
            return last.close + float(close.mean() + highs.mean() + times.sum())
        newest: float = ring.latest("close")
        numbers: tuple[int, ...] = ring.capacity, ring.history, ring.guard, ring.epoch
        numbers = *numbers, ring.lapped
        names: tuple[str, Timeframe] = ring.symbol, ring.timeframe
        print(len(window), window.bar(-1), numbers, names, feed.name, feed.alive())
        return newest


def joinquant(names: Sequence[str]) -> float:
    frame: pd.DataFrame = wealthdata.get_bars("BTCUSDT", 20, "1m")
    several: pd.DataFrame = wealthdata.get_bars(
        names, end_dt="2026-01-31", unit="1d", fields=("date", "close"), feed="spot"
    )
    one = wealthdata.get_bars("BTCUSDT", 20, df=False, on_stale="raise")
    of_each = wealthdata.get_bars(list(names), 5, frequency="1m", df=False, align=True)
    closes: NDArray[np.float64] = one["close"]
    for symbol, rows in of_each.items():
        print(symbol.lower(), rows["date"][-1], len(rows))
    table: pd.DataFrame = wealthdata.history(5, "1d", "close", names)
    table = wealthdata.history(5, security_list="BTCUSDT", label="date")
    arrays = wealthdata.history(5, df=False)
    lows = wealthdata.attribute_history("BTCUSDT", 5, "1h", ["low", "flags"], df=False)
    own: pd.DataFrame = wealthdata.attribute_history("BTCUSDT", 5, copy=True)
    print(frame["date"], several, table, own, arrays["A"][-1], lows["low"].min())
    either = wealthdata.get_bars("A", 5, df=len(frame) > 3)
    print(type(either), wealthdata.history(5, df=len(frame) > 3))
    current: wealthdata.CurrentData = wealthdata.get_current_data(max_age=5)
    security: wealthdata.CurrentSecurity = current["BTCUSDT"]
    price: float = security.last_price - security.day_open
    code: str = wealthdata.normalize_code("btcusdt")
    codes: list[str] = wealthdata.normalize_code(["btcusdt", code])
    days: list[date] = [*wealthdata.get_trade_days(count=5)]
    every: pd.DataFrame = wealthdata.get_all_securities(date="2026-01-31")
    print(codes, days, wealthdata.get_all_trade_days(feed="spot"), every)
    return price + float(closes.mean())


UNANSWERED: list[Callable[..., object]] = [
    wealthdata.get_all_factors,
    wealthdata.get_billboard_list,
    wealthdata.get_call_auction,
    wealthdata.get_concept,
    wealthdata.get_concept_stocks,
    wealthdata.get_concepts,
    wealthdata.get_current_tick,
    wealthdata.get_dominant_future,
    wealthdata.get_extras,
    wealthdata.get_factor_kanban_values,
    wealthdata.get_factor_values,
    wealthdata.get_fund_info,
    wealthdata.get_fundamentals,
    wealthdata.get_fundamentals_continuously,
    wealthdata.get_future_contracts,
    wealthdata.get_history_fundamentals,
    wealthdata.get_index_stocks,
    wealthdata.get_index_weights,
    wealthdata.get_industries,
    wealthdata.get_industry,
    wealthdata.get_industry_stocks,
    wealthdata.get_last_price,
    wealthdata.get_locked_shares,
    wealthdata.get_margincash_stocks,
    wealthdata.get_marginsec_stocks,
    wealthdata.get_money_flow,
    wealthdata.get_money_flow_pro,
    wealthdata.get_mtss,
    wealthdata.get_security_info,
    wealthdata.get_ticks,
    wealthdata.get_trade_day,
    wealthdata.get_valuation,
]


def what_no_feed_knows(security: wealthdata.CurrentSecurity) -> object:
    match len(UNANSWERED):
        case 0:
            return security.paused
        case 1:
            return security.high_limit
        case 2:
            return security.low_limit
        case 3:
            return security.is_st
        case _:
            return security.industry_code


def wait(feed: Feed) -> list[Ring]:
    ring = feed.ring("BTCUSDT", "1m")
    count: int | None = ring.wait(ring.count, timeout=1.0)
    print(count)
    later: int | None = ring.wait(ring.count, None, spin=0.003)
    pairs: list[Ring] = shmfeed.wait([(ring, 5), ring], 1.0, spin=0.003)
    print(later, pairs)
    return shmfeed.wait([ring], timeout=0.5)


async def wait_in_a_task(ring: Ring) -> None:
    count: int | None = await shmfeed.aio.wait_ring(ring, ring.count, timeout=1.0)
    closed: list[Ring] = await shmfeed.aio.wait([ring, (ring, 5)], timeout=1.0)
    print(count, closed)


def status(feed: Feed, ring: Ring) -> tuple[State, Health]:
    found: FeedStatus = feed.status()
    print(feed.heartbeat())
    rows: list[StreamStatus] = found["streams"]
    connection: ConnectionStatus = feed.connection()
    relay: RelayStatus | None = found["relay"]
    one: RingStatus = ring.status()
    age: float | None = one.age
    print(rows[0]["gaps"], rows[0]["last_close_time"], connection["state"], age)
    print(found["pid"], found["last_error"], found.get("market_type"), found["bars"])
    print(None if relay is None else (relay["role"], relay["lag"]))
    feed.close()
    return one.state, found["health"]


def write(name: str) -> None:
    writer: FeedWriter = shmfeed.create(name, history=100, guard=16, max_streams=2)
    with writer:
        ring: RingWriter = writer.add_stream("BTCUSDT", "1h")
        ring.update_forming(0, 1.0, 2.0, 0.5, 1.5, 10.0)
        ring.append(0, 1.0, 2.0, 0.5, 1.5, 10.0, money=15.0, flags=1, wake=False)
        writer.wake([("BTCUSDT", "1h")])
        writer.beat()
        print(writer.replace_rows("BTCUSDT", "1h", np.zeros((9, 1))))
        dropped: int = writer.cut_rows("BTCUSDT", "1h", 3_600_000)
        print(dropped)
        writer.unsubscribe("BTCUSDT", "1h")
        writer.close(unlink=True)


def manage(callback_log: list[str]) -> FeedStatus:
    def changed(old: str, new: str) -> None:
        callback_log.append(f"{old} -> {new}")

    manager: WebSocketManager = shmfeed.get_websocket_manager("default")
    given: SettingsArguments = manager.load_config_from_env()
    manager.configure(**given)
    symbols = ["BTCUSDT", "ETHUSDT"]
    manager.configure(
        symbols=symbols,
        resolutions=["1m", "60m"],
        endpoint="wss://example.com/",
        port=[18001],
        protocol="binance",
        market_type="spot",
        history=500,
        max_reconnect_attempts=None,
        log_level="info",
        config_file="feed.toml",
    )
    manager.on_state_change(changed)
    try:
        manager.start(timeout=10.0, wait=True)
    except (
        shmfeed.WebSocketConnectionError,
        shmfeed.WebSocketSubscriptionError,
        shmfeed.FeedBusyError,
    ) as error:
        print(error, manager.feed)
    manager.update_subscription(symbols=("BTCUSDT",), resolutions="1h", timeout=5.0)
    if not manager.is_connected():
        manager.stop(keep=True)
    return manager.get_status()


def strategy(fields: Sequence[Field], timeframe: Timeframe) -> pd.DataFrame:
    wealthdata.use(feed="default", context_only=False)
    listed = wealthdata.get_price(["A", "B"], count=20, align=True, wide=True)
    print(listed.attrs["shmfeed"].absent)
    ready, missing = wealthdata.wait_bar(["A", "B@other"], ["1m", timeframe], 90.0)
    ready += wealthdata.wait_bar("A", "1h", timeout=0, feed="other", spin=0.003)[0]
    print(ready[0].lower(), missing)
    for event in wealthdata.follow(["A", "B@other"], ["1m", timeframe], 90.0, feed="x"):
        match event:
            case wealthdata.Closed(symbol=symbol, bar=bar):
                print(symbol.lower(), bar.close)
            case wealthdata.Revised(old=old, new=new):
                print(new.close - old.close)
            case wealthdata.Gap(start=start, filled=filled):
                print(start + 1, filled)
            case wealthdata.Health(new=health, why=why):
                print(health.upper(), why.upper())
    one = wealthdata.get_price("BTCUSDT", count=20)
    many = wealthdata.get_price(
        ["BTCUSDT", "ETHUSDT"],
        start_date=date(2026, 1, 1),
        end_date=datetime(2026, 1, 2, 8, 30),
        frequency=timeframe,
        fields=fields,
        skip_paused=True,
        fq=None,
        panel=False,
        fill_paused=False,
        round=False,
        include_now=True,
        copy=True,
        max_age=60.0,
        on_stale="raise",
    )
    alias: TimeframeAlias = "daily"
    day = wealthdata.get_price("BTCUSDT", None, pd.Timestamp.now(), alias, "close")
    return pd.concat([one, many, day])


def followed() -> float:
    last = 0.0
    for event in wealthdata.follow(["A", "B@other"], ["1m", "1h"], 1.0, feed="other"):
        match event:
            case wealthdata.Closed(symbol, timeframe, bar):
                last += bar.close
                print(symbol.lower(), timeframe)
            case wealthdata.Revised(old=old, new=new):
                last += new.close - old.close
            case wealthdata.Gap(start=start, end=end, filled=filled):
                print(start + end, filled)
            case wealthdata.Health(old=before, new=after, why=why):
                print(before, after, why)
    return last


def decided(frame: pd.DataFrame) -> list[str]:
    made: wealthdata.Decision = wealthdata.decide(
        {"side": "buy"}, frame, frame["close"]
    )
    made = wealthdata.decide(("sell", 1, None))
    receipts: tuple[wealthdata.Receipt, ...] = made.receipts
    moment: int = made.time + sum(receipt.first + receipt.rows for receipt in receipts)
    print(moment, made.what, made.strategy, made.truncated)
    return [receipt.digest or receipt.symbol for receipt in receipts]


class Recorded(wealthdata.DataAdapter):
    """A user's own source of bars."""

    def get_history(self, symbol: str, count: int, timeframe: str) -> list[Bar]:
        return [Bar(0, 60_000, 1.0, 2.0, 0.5, 1.5, 10.0)][:count]

    def get_all_symbols(self) -> list[str]:
        return ["BTCUSDT"]


def backtest(now: datetime) -> pd.DataFrame:
    raw = {"open_time": 0, "close_time": 60_000, "open": "1", "high": "2"}
    streams = [{"symbol": "BTCUSDT", "timeframe": "1m", "bars": [raw]}]
    context = wealthdata.Context(streams, current_dt=now, anything=1)
    context.current_dt = now
    context.portfolio = {"cash": 1.0}
    wealthdata.set_context(context)
    same = wealthdata.get_context()
    bars: list[Bar] = same.history("BTCUSDT", 20, "1m")
    bars += context.history("BTCUSDT", 20, "1m")
    adapter = wealthdata.ContextDataAdapter(context)
    bars += adapter.get_history("BTCUSDT", 20, "1m")
    print(adapter.get_all_symbols(), context.portfolio)
    wealthdata.clear_context()
    wealthdata.register_data_adapter(Recorded())
    print(wealthdata.get_data_adapter())
    wealthdata.clear_data_adapter()
    return wealthdata.bars_to_dataframe(bars)


def errors() -> tuple[type[Exception], ...]:
    caught: list[type[Exception]] = [
        shmfeed.ShmfeedError,
        shmfeed.BadArgumentError,
        shmfeed.NoDataError,
        shmfeed.FeedNotFoundError,
        shmfeed.StreamNotFoundError,
        shmfeed.FeedLostError,
        shmfeed.SegmentError,
        shmfeed.SegmentFormatError,
        shmfeed.SegmentFullError,
        shmfeed.BusyRingError,
        shmfeed.StaleFeedError,
        shmfeed.ContextError,
        shmfeed.FeedChangedError,
        shmfeed.GapError,
        shmfeed.ShortError,
        shmfeed.UnconfirmedError,
        shmfeed.RecordingError,
        shmfeed.UnsupportedPlatformError,
        wealthdata.StaleFeedWarning,
        wealthdata.LappedWarning,
        wealthdata.BehindWarning,
        wealthdata.GapWarning,
        wealthdata.ShortWarning,
        wealthdata.UnconfirmedWarning,
        wealthdata.MissingBarsWarning,
    ]
    pid: int | None = shmfeed.FeedBusyError("busy", 1).pid
    print(shmfeed.__version__, pid, wealthdata.Bar is shmfeed.Bar)
    return tuple(caught)


if __name__ == "__main__":
    print(
        read(),
        decided(pd.DataFrame()),
        followed(),
        asyncio.run(wait_in_a_task(shmfeed.attach().ring("BTCUSDT", "1m"))),
    )
