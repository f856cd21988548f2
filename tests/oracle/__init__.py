"""The oracle: what must hold, whatever happened, as seen from outside.

It knows nothing of claims, inodes or processes' insides. It gets what clients saw (`history`) and
what the public reader prints (`records`), and says which invariants that breaks (`invariants`).
The same oracle judges simulated schedules and real processes.
"""

from .history import (
    Acked,
    Asked,
    Began,
    Died,
    EpochTold,
    Event,
    Granted,
    History,
    Leaving,
    Left,
    MarkerOwed,
    Outcome,
    PowerCut,
    Read,
    Revoked,
    Started,
    Stopped,
    Tampered,
)
from .invariants import Violation, check, held_too_long, unchanged, unmarked
from .records import Record, record, records

__all__ = [
    "Acked",
    "Asked",
    "Began",
    "Died",
    "EpochTold",
    "Event",
    "Granted",
    "History",
    "Leaving",
    "Left",
    "MarkerOwed",
    "Outcome",
    "PowerCut",
    "Read",
    "Record",
    "Revoked",
    "Started",
    "Stopped",
    "Tampered",
    "Violation",
    "check",
    "held_too_long",
    "record",
    "records",
    "unchanged",
    "unmarked",
]
