"""Faults of a venue: which exist (`spec`), when they occur, and what they do.

`injection` decides when a fault is due and edits single frames; `connection` applies
the faults of one connection, `bars` those of the venue's bars, `rest` those of REST.
"""

from shmfeed.simulator.faults.connection import ConnectionFaults, Ending
from shmfeed.simulator.faults.injection import FaultSchedule
from shmfeed.simulator.faults.spec import FAULT_KINDS, Fault, faults_help, parse_faults
from shmfeed.simulator.faults.streams import StreamFaults

__all__ = [
    "FAULT_KINDS",
    "ConnectionFaults",
    "Ending",
    "Fault",
    "FaultSchedule",
    "StreamFaults",
    "faults_help",
    "parse_faults",
]
