"""What goes wrong at a venue, on request: which faults there are, and when they happen.

A specification is a comma-separated list. `grammar` reads it, `kinds` is the table of
what there is, `odds` decides when, `effects` and `connection` do it.
"""

from shmfeed.simulator.faults.connection import ConnectionFaults
from shmfeed.simulator.faults.injection import FaultSchedule
from shmfeed.simulator.faults.spec import KINDS, Fault, fault_lines, parse_faults

__all__ = [
    "KINDS",
    "ConnectionFaults",
    "Fault",
    "FaultSchedule",
    "fault_lines",
    "parse_faults",
]
