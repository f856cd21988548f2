"""Whether what clients saw of one session can have happened one thing at a time.

The checker is that of Wing and Gong, as Lowe made it quick: each operation takes effect at some
moment between its call and its return, and not before some return needs it to have. So it keeps
every state that the session may be in, with the operations that took effect there and have not
returned; when none is left, no order explains what was seen.

The model is an append-only log with one holder. Who takes has the session; whoever had it is fenced
by that, unless it is one that released well, which nobody can have taken it from. An append takes
effect for the holder alone; a reader sees the whole log. The log can only grow, so it always is a
beginning of what it is in the end, and its length says all of it. An operation whose process died
took effect by then or never does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import NamedTuple

from tests.oracle import (
    Acked,
    Asked,
    Began,
    Died,
    Granted,
    History,
    Leaving,
    Left,
    Outcome,
    Read,
    Record,
    Revoked,
    Violation,
)


class Kind(Enum):
    TAKE = "take"
    APPEND = "append"
    RELEASE = "release"
    FENCE = "fence"  # a turn learns, or somebody reports, that it lost its session
    READ = "read"


class Operation(NamedTuple):
    """``is_known``: it took effect. ``ids``: what was appended, or all that was read."""

    kind: Kind
    turn: str
    called: float
    returned: float
    is_known: bool = True
    ids: tuple[str, ...] = ()


class State(NamedTuple):
    holder: str | None
    length: int


class Model(NamedTuple):
    """What the session has in the end, and the turns that released well."""

    log: tuple[str, ...]
    released: frozenset[str]

    def step(self, state: State, one: Operation) -> State | None:
        """The state after it; None where it cannot take effect."""
        holder, length = state
        match one.kind:
            case Kind.TAKE:
                return None if holder in self.released else State(one.turn, length)
            case Kind.APPEND:
                end = length + len(one.ids)
                fits = holder == one.turn and self.log[length:end] == one.ids
                return State(holder, end) if fits else None
            case Kind.RELEASE:
                return State(None, length) if holder == one.turn else None
            case Kind.FENCE:
                return State(None if holder == one.turn else holder, length)
            case Kind.READ:
                fits = len(one.ids) == length and one.ids == self.log[:length]
                return state if fits else None


Config = tuple[State, frozenset[int]]


def unexplained(operations: Sequence[Operation], log: Sequence[str]) -> Operation | None:
    """The first operation that no order explains; None when some order explains all.

    ``log`` is what the session has in the end.
    """
    model = Model(
        tuple(log),
        frozenset(one.turn for one in operations if one.kind is Kind.RELEASE and one.is_known),
    )
    configs: set[Config] = {(State(None, 0), frozenset())}
    pending: set[int] = set()
    for _, is_return, number in _moments(operations):
        if not is_return:
            pending.add(number)
            continue
        configs = _returned(number, configs, pending, operations, model)
        pending.discard(number)
        if not configs:
            return operations[number]
    ends = {state.length for state, _ in configs}
    return None if len(log) in ends else Operation(Kind.READ, "", 0, 0, ids=tuple(log))


def _moments(operations: Sequence[Operation]) -> list[tuple[float, bool, int]]:
    calls = [(one.called, False, number) for number, one in enumerate(operations)]
    returns = [(one.returned, True, number) for number, one in enumerate(operations)]
    return sorted(calls + returns)


def _returned(
    number: int,
    configs: Iterable[Config],
    pending: set[int],
    operations: Sequence[Operation],
    model: Model,
) -> set[Config]:
    """What may be once an operation has returned."""
    found: set[Config] = set()
    stack = list(configs)
    known = set(stack)
    while stack:
        state, done = stack.pop()
        if number in done:
            found.add((state, done - {number}))
            continue
        if not operations[number].is_known:
            found.add((state, done))
        for other in pending - done:
            after = model.step(state, operations[other])
            if after is not None and (config := (after, done | {other})) not in known:
                known.add(config)
                stack.append(config)
    return found


# From a history


def check(
    history: History, transcripts: Mapping[str, Sequence[Record]]
) -> tuple[int, list[Violation]]:
    """How many operations there are, and the sessions whose history is not linearizable."""
    sessions = operations_of(history)
    appended = {identity for event in history if isinstance(event, Began) for identity in event.ids}
    found = []
    for session, operations in sessions.items():
        log = [one.id for one in transcripts.get(session, ()) if one.id in appended]
        wrong = unexplained(operations, [one for one in log if one is not None])
        if wrong is not None:
            found.append(Violation("linearizability", f"{session}: no order explains {wrong}"))
    return sum(map(len, sessions.values())), found


def operations_of(history: History) -> dict[str, list[Operation]]:
    """By session."""
    found: dict[str, list[Operation]] = defaultdict(list)
    for life in _lives(history):
        found[life.asked.session].extend(life.operations())
    appended = {identity for event in history if isinstance(event, Began) for identity in event.ids}
    for event in history:
        if isinstance(event, Read):
            ids = tuple(one.id for one in event.records if one.id and one.id in appended)
            read = Operation(Kind.READ, "", event.began, event.at, ids=ids)
            found[event.session].append(read)
    return found


class _Life:
    """What was seen of one turn."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.granted: float | None = None
        self.began: list[Began] = []
        self.acked: dict[float, float] = {}
        self.leaving: float | None = None
        self.outcome: Outcome | None = None
        self.over = float("inf")
        self.revoked: list[float] = []

    def operations(self) -> Iterator[Operation]:
        turn, asked = self.asked.turn_id, self.asked.at
        if self.outcome is Outcome.BUSY:
            return
        taken = self.over if self.granted is None else self.granted
        yield Operation(Kind.TAKE, turn, asked, taken, self.granted is not None)
        for began in self.began:
            acked = self.acked.get(began.at)
            if acked is not None or self.outcome is not Outcome.REVOKED:
                end = self.over if acked is None else acked
                known = acked is not None
                yield Operation(Kind.APPEND, turn, began.at, end, known, began.ids)
        for at in self.revoked:
            yield Operation(Kind.FENCE, turn, asked, at)
        if self.outcome is not Outcome.REVOKED:
            left = self.leaving or max([asked, *(one.at for one in self.began)])
            yield Operation(Kind.RELEASE, turn, left, self.over, self.outcome is Outcome.OK)


def _lives(history: History) -> Iterable[_Life]:
    lives: dict[str, _Life] = {}
    for event in history:
        match event:
            case Asked():
                lives[event.turn_id] = _Life(event)
            case Granted(at, turn):
                lives[turn].granted = at
            case Began(_, turn):
                lives[turn].began.append(event)
            case Acked(at, turn):
                lives[turn].acked[event.began] = at
            case Leaving(at, turn):
                lives[turn].leaving = at
            case Left(at, turn, outcome):
                lives[turn].outcome, lives[turn].over = outcome, at
            case Revoked(at, turn) if turn in lives:
                lives[turn].revoked.append(at)
            case Died(at, process):
                for life in lives.values():
                    if life.asked.process == process and life.outcome is None:
                        life.over = at
    return lives.values()
