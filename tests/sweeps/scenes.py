"""One run of a story with a signal at one point of it, and the verdict on what came of it.

After the victim is dead, a successor takes every session at once (nobody waits for the dead: the
take does not wait at all), writes and reads; then doctor repairs, finds nothing left, and a second
time changes nothing. The oracle judges all that was seen.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, cast

from tests.oracle import (
    Asked,
    Died,
    History,
    Outcome,
    Record,
    Violation,
    check,
    records,
    unchanged,
    unmarked,
)
from turnlock.config import default_state_directory
from turnlock.doctor.examine import examine
from turnlock.store import open_store

from .actors import Actor, Overdue, Wire, actor
from .calls import Halt, Point, Reached, watch
from .clients import Client, Erred, appends, now, reads
from .stories import Holding, Story

_SHARED_MEMORY = "/dev/shm"
# What doctor imports when it is needed: once here, and not again in every process.
default_state_directory()


class Ground(NamedTuple):
    """A state directory to begin with, and what was seen of how it came to be so."""

    path: Path
    events: tuple[Any, ...]


class Seen:
    """All that actors told: events of the history, and what no history has."""

    def __init__(self, events: Iterable[Any] = ()) -> None:
        self.events = list(events)
        self.violations: list[Violation] = []
        self.errors: list[Erred] = []

    def note(self, what: object) -> None:
        if isinstance(what, Violation):
            self.violations.append(what)
        elif isinstance(what, Erred):
            self.errors.append(what)
        elif isinstance(what, tuple) and hasattr(what, "at"):
            self.events.append(what)

    def died(self, process: str) -> None:
        self.events.append(Died(now(), process))

    def as_ground(self, at: Path) -> Ground:
        """What was seen so far, of a copy that none of those who live have a hold of."""
        living = {one.process for one in self.events if isinstance(one, Asked)}
        living -= {one.process for one in self.events if isinstance(one, Died)}
        return Ground(at, (*self.events, *(Died(now(), one) for one in sorted(living))))

    def history(self) -> History:
        history = History()
        for event in sorted(self.events, key=lambda one: cast("float", one.at)):
            history.note(event)
        return history


@contextmanager
def workshop() -> Iterator[Path]:
    """A place for state directories; in memory where there is room, as only speed depends on it."""
    shared = os.access(_SHARED_MEMORY, os.W_OK)
    with TemporaryDirectory(prefix="turnlock-sweep-", dir=_SHARED_MEMORY if shared else None) as at:
        yield Path(at).resolve()


def prepare(story: Story, at: Path) -> Ground:
    """The state directory that the story begins with."""
    seen = Seen()
    at.mkdir(parents=True)
    story.prepare(str(at), seen.note)
    if seen.violations:
        raise AssertionError(f"{story.name} cannot be prepared: {seen.violations}")
    return Ground(at, tuple(seen.events))


def copy_of(ground: Ground, at: Path) -> str:
    shutil.copytree(ground.path, at, symlinks=True)
    return str(at)


def quiet() -> None:
    """In a forked process: without the log, which tells of what is done here on purpose."""
    logging.getLogger("turnlock").setLevel(logging.CRITICAL + 1)


def halted(story: Story, root: str, halt: Point, sent: signal.Signals) -> Callable[[Wire], None]:
    """The story's act in a process that sends itself a signal at a point."""

    def work(wire: Wire) -> None:
        quiet()
        client = Client(story.open(root), wire.tell, story.actor, prefix=f"{story.actor}-")
        watch(Halt(halt, sent, wire.tell))
        story.act(client)

    return work


@contextmanager
def partners(story: Story, root: str, seen: Seen) -> Iterator[list[Actor]]:
    """The story's other processes: the holder holds, the rival has begun."""

    def holds(wire: Wire) -> None:
        quiet()
        assert story.holder is not None
        story.holder(Client(story.open(root), wire.tell, "holder", prefix="holder-"), wire)

    def rivals(wire: Wire) -> None:
        quiet()
        assert story.rival is not None
        story.rival(Client(story.open(root), wire.tell, "rival", prefix="rival-"))

    with ExitStack() as ends:
        actors = []
        if story.holder is not None:
            actors.append(ends.enter_context(actor("holder", holds)))
            actors[-1].until(Holding, seen.note)
        if story.rival is not None:
            actors.append(ends.enter_context(actor("rival", rivals)))
        yield actors


def end_all(actors: Sequence[Actor], seen: Seen) -> None:
    """Let the partners go on, and wait for their end."""
    for one in actors:
        one.go_on()
    for one in actors:
        with noting_overdue(seen):
            one.ended(seen.note)


def kill(
    story: Story,
    root: str,
    point: Point,
    seen: Seen,
    *,
    on_death: Callable[[], object] | None = None,
) -> Reached | None:
    """Kill the story's process at a point; None when it ended before it came there.

    ``on_death`` is called then, unless a rival is at work.
    """
    reached: Reached | None = None
    victim = halted(story, root, point, signal.SIGKILL)
    with noting_overdue(seen), partners(story, root, seen) as others:
        with actor(story.actor, victim) as one:
            reached = cast("Reached | None", one.until(Reached, seen.note))
            status = one.ended(seen.note)
        if reached is not None:
            assert os.WIFSIGNALED(status), f"the signal at {point} did not fire"
            seen.died(story.actor)
            if on_death is not None and story.rival is None:
                on_death()
        end_all(others, seen)
    return reached


@contextmanager
def noting_overdue(seen: Seen) -> Iterator[None]:
    """Whoever does not come to where it had to be is a violation."""
    try:
        yield
    except Overdue as overdue:
        seen.note(Violation("I8", str(overdue)))


def verdict(
    sessions: Sequence[str],
    root: str,
    seen: Seen,
    *,
    durable: bool = False,
    tolerant: bool = False,
    first: Callable[[], object] | None = None,
    finals: dict[str, tuple[Record, ...]] | None = None,
) -> tuple[Violation, ...]:
    """What is wrong with what came of it, after a successor and doctor were there.

    ``durable``: only what was made durable has to be there, as the power was cut. ``tolerant``:
    errors of Turnlock's were to be expected. ``first``: called in the successor. ``finals``:
    filled with the transcripts.
    """
    transcripts: dict[str, tuple[Record, ...]] = {} if finals is None else finals

    def note(what: object) -> None:
        if isinstance(what, Final):
            transcripts[what.session] = what.records
        seen.note(what)

    with noting_overdue(seen), actor("successor", _succeeds(sessions, root, first)) as successor:
        successor.ended(note)
    history = seen.history()
    found = seen.violations + check(history, transcripts)
    if not durable:
        found += unmarked(history, transcripts)
    if not tolerant:
        found += (Violation("I11", f"{who}: {error}") for who, error in seen.errors)
    return tuple(found)


class Final(NamedTuple):
    """A transcript when all is over."""

    session: str
    records: tuple[Record, ...]


def _succeeds(
    sessions: Sequence[str], root: str, first: Callable[[], object] | None
) -> Callable[[Wire], None]:
    def work(wire: Wire) -> None:
        quiet()
        if first is not None:
            first()
        client = Client(open_store(root), wire.tell, "successor", prefix="successor-")
        for session in sessions:
            outcome = client.turn(session, session, reads, appends())
            if outcome is not Outcome.OK:
                client.violates("I7", f"its turn on {session} ended {outcome.value}")
        look_with_doctor(root, client)
        for session in sessions:
            client.read(session)
            wire.tell(Final(session, records(client.store.read(session))))

    return work


def look_with_doctor(root: str, client: Client) -> None:
    """Repair; then nothing is stale or broken, and a second time nothing is changed."""
    examine(root, fix=True)
    before = contents(root)
    report = examine(root, fix=True)
    if report.stale or not report.is_sound:
        client.violates("I10", f"doctor is not through: {report.locks} {report.findings}")
    crashed = [found for found in report.findings if found.check == "check-crashed"]
    if crashed:
        client.violates("I11", f"doctor crashed: {crashed}")
    for violation in unchanged(before, contents(root)):
        client.note(violation)


def contents(root: str) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path(root).rglob("*") if path.is_file()}


def describe(violations: Sequence[Violation]) -> str:
    """Of each invariant the first, and then the others, cut to a bearable length."""
    first = {one.invariant: one for one in reversed(violations)}
    others = [one for one in violations if one not in first.values()]
    return "; ".join(map(str, [*first.values(), *others]))[:600]


def say(line: str) -> None:
    print(line, flush=True, file=sys.stdout)
