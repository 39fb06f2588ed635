"""Trade the spread between a perpetual and the spot market, on two feeds.

python -m wealthdata run examples/spot_and_perpetual.py \
    --symbols BTCUSDT@spot,BTCUSDT@perp --frequency 1m
"""

from wealthdata import decide, get_price

COUNT, ENTER = 20, 1.5  # bars, and standard deviations


def handle_data(context, data):
    spot, perpetual = context.universe
    closes = get_price(
        [spot, perpetual],
        count=COUNT,
        frequency=context.run_params.frequency,
        fields="close",
        align=True,
        wide=True,
    )
    if len(closes) < COUNT or closes.attrs["shmfeed"].absent:
        return
    basis = closes[perpetual] / closes[spot] - 1
    spread = basis.std()
    score = (basis.iloc[-1] - basis.mean()) / spread if spread else 0.0
    side = 0
    if abs(score) > ENTER:
        side = -1 if score > 0 else 1  # sell the dear one, buy the cheap one
    decide({"perpetual": side, "spot": -side}, closes)
