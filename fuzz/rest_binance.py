"""Binance's REST answers: any bytes become sound rows, known symbols, or HistoryError.

The first byte says which answer they are, and of which timeframe.
"""

import loop

with loop.watched(__name__):
    import numpy as np

    from shmfeed.bar import FREE_PHASE, TIMEFRAMES, close_time, on_grid
    from shmfeed.history.binance import MARKETS, failure_of, parse_info, parse_klines
    from shmfeed.history.blocks import check_rows
    from shmfeed.history.interface import HistoryError
    from shmfeed.layout import C_FLOATS

NOW = 1_700_000_040_000
LONGEST = 400
KINDS = "kcie"  # klines, those of COIN-M, exchangeInfo, an error
# The example of the venue's documents, rows of each market, and its symbols and errors.
SEEDS = [
    (
        b'k\x0e[[1499040000000,"0.01634790","0.80000000","0.01575800","0.01577100",'
        b'"148976.11427815",1499644799999,"2434.19055334",308,"1756.87402397",'
        b'"28.46694368","0"]]'
    ),
    (
        b'k\x01[[1626992700000,"1.01000","1.01100","1.01000","1.01100","3917",1626992759999,'
        b'"3957.89900",48,"1729","1748.01900","0"],[1626992760000,"1.011","1.011","1.011",'
        b'"1.011","0",1626992819999,"0",0,"0","0","0"]]'
    ),
    (
        b'c\x0f[[1622505600000,"2700.5","2899.9","2600","2701.2","1893",1625097599999,'
        b'"9.49653573",6,"9","0.1","0"]]'
    ),
    b'k\x01[["1626992700000",1,null,"NaN","Infinity",-0.0,1e400]]',
    b'k\x01[[1.5,"1","1","1","1","1",2]]',
    # Newest first, a high below the low, off the grid.
    b'k\x01[[60000,"1","1","1","1","1",0],[0,"1","1","1","1","1",0]]',
    b'k\x01[[60000,"1","1","2","1","1",0]]',
    b'k\x01[[60001,"1","1","1","1","1",0]]',
    (
        b'i\x01{"timezone":"UTC","rateLimits":[{"rateLimitType":"REQUEST_WEIGHT","interval":'
        b'"MINUTE","intervalNum":1,"limit":6000}],"symbols":[{"symbol":"BTCUSDT","status":'
        b'"TRADING"},{"symbol":"LUNAUSDT","status":"BREAK"},{"symbol":"ETHUSD_210924",'
        b'"contractStatus":"DELIVERED","deliveryDate":1632470400000}]}'
    ),
    b'e\x01{"code":-1121,"msg":"Invalid symbol."}',
    b"e\x01<html><body>403</body></html>",
]
_TIMEFRAMES = tuple(TIMEFRAMES)


def one(data: bytes) -> None:
    number = KINDS.find(chr(data[0])) if data else 0
    kind = KINDS[number if number >= 0 else data[0] % len(KINDS)]
    timeframe = _TIMEFRAMES[data[1] % len(_TIMEFRAMES)] if data[1:] else "1m"
    answer = data[2:]
    try:
        if kind == "i":
            judge_info(answer)
        elif kind == "e":
            code, words = failure_of(answer)
            assert isinstance(code, str)
            assert isinstance(words, str)
        else:
            market = MARKETS["coinm" if kind == "c" else "spot"]
            judge_rows(check_rows(parse_klines(answer, market), timeframe), timeframe)
    except HistoryError as error:
        assert error.kind == "malformed"
        assert len(str(error)) <= LONGEST


def judge_info(answer: bytes) -> None:
    info = parse_info(answer, NOW)
    assert info.weight_limit >= 0
    for state in info.states.values():
        assert state.is_known
        assert state.trades is (state.text == "")
        assert state.text.isprintable()


def judge_rows(
    block: "np.ndarray[tuple[int, int], np.dtype[np.float64]]", of: str
) -> None:
    opens, closes = block[:2].view(np.int64).tolist()
    assert opens == sorted(set(opens))
    for opened, closed in zip(opens, closes, strict=True):
        assert on_grid(opened, of, None if of == FREE_PHASE else 0)
        assert closed == close_time(opened, of)
    first, high, low, last, volume, money = block[C_FLOATS : C_FLOATS + 6]
    assert np.isfinite(block[C_FLOATS : C_FLOATS + 5]).all()
    assert (low <= np.minimum(first, last)).all()
    assert (high >= np.maximum(first, last)).all()
    assert (volume >= 0).all()
    assert (np.isnan(money) | (money >= 0)).all()


if __name__ == "__main__":
    loop.fuzz(one, SEEDS)
