"""What goes wrong at a venue, on request: which faults there are, and when they happen.

A specification is a comma-separated list. `grammar` reads it, `kinds` is the table of
what there is, `odds` decides when, `effects` and `connection` do it.
"""

from shmfeed.simulator.faults.connection import ConnectionFaults
from shmfeed.simulator.faults.grammar import Fault, parse_faults
from shmfeed.simulator.faults.kinds import KINDS, fault_lines
from shmfeed.simulator.faults.odds import Odds

__all__ = [
    "KINDS",
    "ConnectionFaults",
    "Fault",
    "Odds",
    "fault_lines",
    "parse_faults",
]
