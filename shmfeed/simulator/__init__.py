"""A local venue: it makes or replays market data and serves them on loopback."""

from shmfeed.simulator.command import add_arguments, run
from shmfeed.simulator.market import STEPS, bar, expected, verify
from shmfeed.simulator.options import VenueOptions, venue_options
from shmfeed.simulator.venue import Venue

__all__ = [
    "STEPS",
    "Venue",
    "VenueOptions",
    "add_arguments",
    "bar",
    "expected",
    "run",
    "venue_options",
    "verify",
]
