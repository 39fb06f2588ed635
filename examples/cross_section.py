"""Hold the strongest tenth of many symbols, by their return over the last bars.

python -m wealthdata run examples/cross_section.py --symbols "$SYMBOLS" --frequency 1m
"""

from wealthdata import decide, get_price

LOOKBACK = 10


def handle_data(context, data):
    # One instant for all symbols, and only the close times that all of them have.
    closes = get_price(
        context.universe,
        count=LOOKBACK,
        frequency=context.run_params.frequency,
        fields="close",
        align=True,
        wide=True,
    )
    about = closes.attrs["shmfeed"]
    if len(closes) < LOOKBACK or about.late:
        return  # too young, or a symbol holds the others back: rank at the next close
    change = closes.iloc[-1] / closes.iloc[0] - 1
    best = change.nlargest(max(1, len(change) // 10))
    decide({"hold": sorted(best.index)}, closes)
