"""Follow several symbols in asyncio, beside whatever else the program does.

SHMFEED_FEED=default python examples/asyncio_strategy.py 1m BTCUSDT ETHUSDT
"""

import asyncio
import sys
from contextlib import suppress

import wealthdata
from wealthdata import Closed, Gap, Health, Revised


async def trade(symbol, frequency):
    """Handle each event of one symbol; several of these run side by side."""
    async for event in wealthdata.follow(symbol, frequency):
        match event:
            case Closed(bar=bar):
                frame = wealthdata.get_price(symbol, count=20, frequency=frequency)
                above = bar.close > frame["close"].mean()
                print(symbol, "closes", "above" if above else "below", "its average")
            case Revised(old=old, new=new):
                print(symbol, "was corrected from", old.close, "to", new.close)
            case Gap(start=start, end=end, filled=filled):
                print(symbol, "lacks bars from", start, "to", end, "filled:", filled)
            case Health(old=old, new=new, why=why):
                print(symbol, "is", new, "and was", old, why)


async def main(frequency, *symbols):
    async with asyncio.TaskGroup() as group:
        for symbol in symbols:
            group.create_task(trade(symbol, frequency))


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
