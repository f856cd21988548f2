"""What happens in a schedule, drawn from its seed: who wants what, and what befalls whom."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from random import Random
from typing import NamedTuple, TypeVar

from .process import Fault
from .scheduler import GRID, Delay

# What is cheap and what is dear, so that a minute buys most.
_BACKENDS = ("memory",) * 8 + ("files",) * 5 + ("portable",)
T = TypeVar("T")
PROCESSES_MAX = 3
_SESSIONS = ("main/a", "main/b")
# Of others' moments, of their waits, of their limits.
_DELAYS = (GRID, 0.01, 0.3, 2.5)
_CALLS = (
    *("open", "flock", "fcntl", "fstat", "lstat", "pread", "write", "fsync", "link", "rename"),
    *("unlink", "inotify_add_watch", "poll"),
)


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
    delays: tuple[Delay, ...]
    disk: tuple[float, int]
    sessions: tuple[str, ...]
    processes: tuple[ProcessPlan, ...]
    cuts_power: bool

    @property
    def stops(self) -> bool:
        return self._has("stop")

    @property
    def fails(self) -> bool:
        return self._has("fail")

    @property
    def longest_delay(self) -> float:
        """For so many seconds at most somebody stands still and keeps what it has."""
        faults = (fault for one in self.processes for fault in one.faults)
        in_calls = (fault.value for fault in faults if fault.kind in ("delay", "remove"))
        return max((*(delay.seconds for delay in self.delays), *in_calls), default=0.0)

    @property
    def removes(self) -> bool:
        by_hand = any(act.kind == "remove" for one in self.processes for act in one.acts)
        return by_hand or self._has("remove")

    def _has(self, kind: str) -> bool:
        return any(fault.kind == kind for one in self.processes for fault in one.faults)


def draw(seed: int) -> Plan:
    """The plan of a seed."""
    return _Drawing(seed).plan()


class _Drawing:
    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._random = Random(seed)

    def plan(self) -> Plan:
        backend = self._one_of(*_BACKENDS)
        count = 1 if backend == "memory" else self._one_of(1, 2, 2, PROCESSES_MAX)
        sessions = _SESSIONS[: self._one_of(1, 1, 2)]
        return Plan(
            self._seed,
            backend,
            self._one_of(0, 2, 5, 10, 20, 20, 50, 100, 200, 500, 1000, 3000),
            self._one_of(0, 0, 1, 10),
            tuple(self._delay() for _ in range(self._one_of(0, 0, 0, 1, 2, 3))),
            self._one_of((0.0, 0), (0.0, 0), (0.05, 30), (1.5, 10), (4.0, 5)),
            sessions,
            tuple(self._process(backend, count, sessions) for _ in range(count)),
            backend != "memory" and self._chance(0.15),
        )

    def _process(self, backend: str, count: int, sessions: tuple[str, ...]) -> ProcessPlan:
        most = 4 if count == 1 else 2
        clients = tuple(self._client(sessions) for _ in range(1 + self._below(most)))
        acts = tuple(self._act(backend, sessions) for _ in range(self._one_of(0, 0, 0, 1, 2)))
        # One fault alone meets all that it can meet; two, what the first left behind.
        befalls = 0 if backend == "memory" else self._one_of(0, 0, 1, 1, 1, 2)
        faults = tuple(fault for _ in range(befalls) for fault in self._faults())
        return ProcessPlan(clients, acts, faults)

    def _faults(self) -> Iterator[Fault]:
        kind = self._one_of("kill", "kill", "stop", "stop", "fail", "short", "delay", "remove")
        # What ends nothing may come again and again.
        times = self._one_of(1, 1, 5) if kind in ("delay", "remove") else 1
        for _ in range(times):
            call, of = self._place()
            yield Fault(call, kind, self._value(kind), of)

    def _place(self) -> tuple[int, str]:
        """Any call, or one of the first of its name: there are few renames among many calls."""
        if self._chance(0.5):
            return 1 + self._below(self._one_of(40, 150, 400)), ""
        return 1 + self._below(self._one_of(2, 6, 20)), self._one_of(*_CALLS)

    def _value(self, kind: str) -> float:
        match kind:
            case "stop":
                return self._one_of(0.2, 1.5, 4.0, 8.0)
            case "fail":
                return self._one_of(errno.EIO, errno.EIO, errno.ENOSPC, errno.EMFILE)
            case "delay" | "remove":
                return self._one_of(*_DELAYS)
        return 0.0

    def _delay(self) -> Delay:
        return Delay(self._below(self._one_of(250, 1000, 4000)), self._one_of(*_DELAYS))

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
        kinds += ("sibling", "sibling")
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
