"""What happens in a schedule, drawn from its seed: who wants what, and what befalls whom."""

from __future__ import annotations

import errno
from random import Random
from typing import NamedTuple, TypeVar

from .process import Fault
from .scheduler import GRID

# What is cheap and what is dear, so that a minute buys most.
_BACKENDS = ("memory",) * 8 + ("files",) * 5 + ("portable",)
T = TypeVar("T")
_SESSIONS = ("main/a", "main/b")


class Step(NamedTuple):
    """One thing that a client does inside of a turn; ``value`` is seconds or a number."""

    kind: str
    value: float = 0.0


class TurnPlan(NamedTuple):
    """``stubborn``: how many revocations and cancellations its block ignores and goes on."""

    session: str
    wait: float | None
    max_hold: float
    max_stall: float | None
    steps: tuple[Step, ...]
    stubborn: int


class ClientPlan(NamedTuple):
    """A task, or a thread, that has turns one after another.

    ``cancel_at``: at which of its suspensions a task is cancelled, ``cancel_after`` so many
    seconds; ``timeout``: of an ``asyncio.timeout`` around all of it.
    """

    is_thread: bool
    begins: float
    turns: tuple[TurnPlan, ...]
    cancel_at: int | None
    cancel_after: float
    timeout: float | None


class Act(NamedTuple):
    """What an operator does at some time: ``revoke``, ``clean``, ``look``, ``read``, ``remove``."""

    at: float
    kind: str
    session: str


class ProcessPlan(NamedTuple):
    clients: tuple[ClientPlan, ...]
    acts: tuple[Act, ...]
    faults: tuple[Fault, ...]


class Plan(NamedTuple):
    """``disk``: how long an fsync takes, at most, and how many in a hundred take that long."""

    seed: int
    backend: str
    rarity: int
    stalls: int
    disk: tuple[float, int]
    processes: tuple[ProcessPlan, ...]
    cuts_power: bool

    @property
    def stops(self) -> bool:
        return any(fault.kind == "stop" for one in self.processes for fault in one.faults)

    @property
    def fails(self) -> bool:
        return any(fault.kind == "fail" for one in self.processes for fault in one.faults)

    @property
    def kills(self) -> bool:
        return any(fault.kind == "kill" for one in self.processes for fault in one.faults)


def draw(seed: int) -> Plan:
    """The plan of a seed."""
    return _Drawing(seed).plan()


class _Drawing:
    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._random = Random(seed)

    def plan(self) -> Plan:
        backend = self._one_of(*_BACKENDS)
        count = 1 if backend == "memory" else self._one_of(1, 2, 2, 3)
        sessions = _SESSIONS[: self._one_of(1, 1, 2)]
        return Plan(
            self._seed,
            backend,
            self._one_of(0, 2, 5, 10, 20, 20, 50, 100, 200, 500, 1000, 3000),
            self._one_of(0, 0, 1, 10),
            self._one_of((0.0, 0), (0.0, 0), (0.05, 30), (1.5, 10), (4.0, 5)),
            tuple(self._process(backend, count, sessions) for _ in range(count)),
            backend != "memory" and self._chance(0.15),
        )

    def _process(self, backend: str, count: int, sessions: tuple[str, ...]) -> ProcessPlan:
        most = 4 if count == 1 else 2
        clients = tuple(self._client(sessions) for _ in range(1 + self._below(most)))
        acts = tuple(self._act(backend, sessions) for _ in range(self._one_of(0, 0, 0, 1, 2)))
        faults = self._faults() if backend != "memory" else ()
        return ProcessPlan(clients, acts, faults)

    def _faults(self) -> tuple[Fault, ...]:
        call = 1 + self._below(self._one_of(40, 150, 400))
        match self._one_of("none", "none", "none", "kill", "kill", "stop", "stop", "fail", "short"):
            case "kill":
                return (Fault(call, "kill"),)
            case "stop":
                return (Fault(call, "stop", self._one_of(0.2, 1.5, 4.0, 8.0)),)
            case "fail":
                number = self._one_of(errno.EIO, errno.EIO, errno.ENOSPC, errno.EMFILE)
                return (Fault(call, "fail", number),)
            case "short":
                return (Fault(call, "short"),)
        return ()

    def _client(self, sessions: tuple[str, ...]) -> ClientPlan:
        is_thread = self._chance(0.25)
        turns = tuple(self._turn(sessions, is_thread) for _ in range(self._one_of(1, 1, 1, 2, 3)))
        cancelled = not is_thread and self._chance(0.3)
        return ClientPlan(
            is_thread,
            self._time(0.1),
            turns,
            1 + self._below(24) if cancelled else None,
            self._one_of(0.0, 0.0, GRID, self._time(1.0)) if cancelled else 0.0,
            self._time(3.0) if not is_thread and self._chance(0.1) else None,
        )

    def _turn(self, sessions: tuple[str, ...], is_thread: bool) -> TurnPlan:
        kinds: tuple[str, ...] = (
            "append",
            "append",
            "append",
            "pause",
            "read",
            "progress",
            "check",
            "epoch",
        )
        kinds += ("messages", "watch", "raise", "hang", "block", "again", "edge", "edge", "edge")
        kinds += () if is_thread else ("gather", "gather")
        steps = tuple(self._step(self._one_of(*kinds)) for _ in range(self._below(5)))
        return TurnPlan(
            self._one_of(*sessions),
            self._one_of(0.0, 0.5, 2.0, 8.0, 8.0, None),
            self._one_of(0.1, 0.5, 1.0, 1.0, 3.0),
            self._one_of(None, None, 0.25, 0.5),
            steps,
            self._one_of(0, 0, 0, 1, 3),
        )

    def _step(self, kind: str) -> Step:
        match kind:
            case "append" | "gather" | "again" | "edge":
                return Step(kind, 1 + self._below(3))
            case "hang":
                return Step(kind, self._one_of(1.0, 1.5, 4.0))
            case "block":
                return Step(kind, self._one_of(GRID, 0.1, 0.5, 1.2))
            case "watch":
                return Step(kind, self._one_of(0.0, 0.1, 0.3, 2.0))
            case _:
                return Step(kind, self._time(0.3))

    def _act(self, backend: str, sessions: tuple[str, ...]) -> Act:
        kinds: tuple[str, ...] = ("revoke", "revoke", "look", "read", "clean", "check")
        kinds += () if backend == "memory" else ("remove",)
        return Act(self._time(2.0), self._one_of(*kinds), self._one_of(*sessions))

    def _time(self, most: float) -> float:
        """On a grid of sixteenths, so that things happen at the same time."""
        return self._below(17) / 16 * most

    def _one_of(self, *choices: T) -> T:
        return choices[self._below(len(choices))]

    def _below(self, count: int) -> int:
        return int(self._random.random() * count)

    def _chance(self, share: float) -> bool:
        return self._random.random() < share
