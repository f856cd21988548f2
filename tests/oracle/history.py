"""What clients saw, in the order in which they saw it.

Times are seconds of one clock that all clients share: CLOCK_MONOTONIC on a host, virtual time in a
simulation. An event is noted *before* a request is made and *after* its answer is there, so that
what is noted as later did happen later.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from .records import Record


class Outcome(Enum):
    """How a turn ended for who asked for it."""

    OK = "ok"
    FAILED = "failed"  # its block raised, or its last write did
    CANCELLED = "cancelled"
    REVOKED = "revoked"
    BUSY = "busy"  # it was never granted


class Asked(NamedTuple):
    """A turn is asked for. ``lane``: waiters of one lane are served in the order of asking.

    ``max_hold``: its hold limit, where the test minds it.
    """

    at: float
    turn_id: str
    session: str
    process: str
    lane: str | None = None
    max_hold: float | None = None


class Started(NamedTuple):
    """A store reported that a turn has its session; its caller need not have heard of it."""

    at: float
    turn_id: str


class Granted(NamedTuple):
    at: float
    turn_id: str


class EpochTold(NamedTuple):
    """A turn was told its epoch, durable."""

    at: float
    turn_id: str
    epoch: int


class Began(NamedTuple):
    """An append was requested."""

    at: float
    turn_id: str
    ids: tuple[str, ...]


class Acked(NamedTuple):
    """An append was acknowledged. ``began`` is when it was requested."""

    at: float
    turn_id: str
    ids: tuple[str, ...]
    began: float


class Leaving(NamedTuple):
    """A turn's block came to its end; the turn may have ended well from here on."""

    at: float
    turn_id: str


class Left(NamedTuple):
    """A turn's caller has its answer."""

    at: float
    turn_id: str
    outcome: Outcome


class Revoked(NamedTuple):
    """A revocation was reported as done: by `LeaseRevoked`, an event, or who asked for it."""

    at: float
    turn_id: str
    reason: str


class MarkerOwed(NamedTuple):
    """It was reported that a turn's marker could not be written yet."""

    at: float
    turn_id: str


class Read(NamedTuple):
    """A whole transcript was read, some time between ``began`` and ``at``."""

    at: float
    session: str
    records: tuple[Record, ...]
    began: float
    turn_id: str | None = None


class Died(NamedTuple):
    """A process was killed, or the power of all was cut."""

    at: float
    process: str


class PowerCut(NamedTuple):
    """What was not durable may be gone, or back; beside the `Died` of each process."""

    at: float


class Stopped(NamedTuple):
    """A process stood still until ``until``."""

    at: float
    process: str
    until: float


class Tampered(NamedTuple):
    """Somebody removed a session's lock file by hand."""

    at: float
    session: str


Event = (
    Asked
    | Started
    | Granted
    | EpochTold
    | Began
    | Acked
    | Leaving
    | Left
    | Revoked
    | MarkerOwed
    | Read
    | Died
    | PowerCut
    | Stopped
    | Tampered
)


class History:
    """All of it. `note` keeps the order in which it is called."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def note(self, event: Event) -> None:
        self.events.append(event)

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)
