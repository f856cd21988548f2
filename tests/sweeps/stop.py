"""SIGSTOP at every file call; a successor has its turn meanwhile; then SIGCONT.

The successor comes as an operator, who revokes and then takes, or as a waiter for whom the stopped
holder is past its limit (its clock is ahead). It has to have its turn at once: nobody depends on a
stopped process. There is one exception. Whoever is stopped inside a guard is waited for until
`GuardTimeout`, which names it and its state; once it goes on, or is killed, the successor has its
turn. Whether the stopped one has a guard is what /proc/locks says, not what it thinks.

The one that wakes writes nothing late, takes nothing away, and is told. Where it has nothing to
wait for, it wakes while the successor holds the session, who then writes on.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, cast

from tests.helpers import PATIENCE
from tests.oracle import Died, Granted, Left, Outcome, Revoked, Violation
from turnlock.backends.files.guard import flock_holder
from turnlock.errors import GuardTimeout, LockPathError, StoreError

from .actors import Actor, Overdue, Wire, actor
from .calls import Point, Reached
from .clients import Client, OneTurn, appends, now, reads
from .pool import Share, Work, spread
from .scenes import (
    Ground,
    Seen,
    copy_of,
    describe,
    end_all,
    halted,
    noting_overdue,
    partners,
    prepare,
    quiet,
    verdict,
)
from .stories import STORIES, Story, story
from .tally import Tally

# How long somebody in a guard is waited for; it is stopped, so that it is always that long.
_GUARD_TIMEOUT = 0.05
# What these do waits for nobody.
_PROMPT = frozenset({"revoke", "start-up clean-up", "doctor --fix"})
# Far past every hold limit.
_AHEAD = 10_000.0


def quick(work: Work) -> Work:
    return work._replace(stride=29)


def sweep(work: Work) -> Tally:
    tally = Tally()
    stories = [one.name for one in STORIES if one.rival is None and work.chooses(one.name)]
    for found in spread(work, stop_all, work.shares(stories)):
        tally.add(found)
    return tally


def stop_all(share: Share) -> Tally:
    one = story(share.story)
    ground = prepare(one, share.at / "ground")
    tally = Tally()
    for place, point in enumerate(share.points()):
        # Just after a call one way, just before the next the other.
        plan = Plan(one, point, as_waiter=point.number % 2 == 1, resumes=point.number % 4 < 2)
        if not stop(plan, ground, share.at / str(place), tally):
            break
    return tally


class Plan(NamedTuple):
    """``as_waiter``: how the successor comes. ``resumes``: what becomes of who has a guard."""

    story: Story
    point: Point
    as_waiter: bool
    resumes: bool


class Blocked(NamedTuple):
    """The successor cannot go on: who is said to have the guard, and in what state."""

    pid: int | None
    state: str | None


class Through(NamedTuple):
    """The successor has had its turns, and is in the last of them still."""


def stop(plan: Plan, ground: Ground, at: Path, tally: Tally) -> bool:
    """Stop the story's process at a point; False when it ended before it came there."""
    one, seen = plan.story, Seen(ground.events)
    root = copy_of(ground, at)
    victim = halted(one, root, plan.point, signal.SIGSTOP)
    reached: Reached | None = None
    with (
        noting_overdue(seen),
        partners(one, root, seen) as others,
        actor(one.actor, victim) as stopped,
    ):
        reached = cast("Reached | None", stopped.until(Reached, seen.note))
        if reached is not None:
            stopped.await_stop()
            tally.counts["stops"] += 1
            tally.fired[reached.call] += 1
            _pass_by(plan, root, stopped, seen, tally)
        end_all(others, seen)
        if stopped.status is None:
            _wake(stopped, seen)
    found = verdict(one.sessions, root, seen, tolerant=True)
    if found:
        way = "waiter" if plan.as_waiter else "operator"
        tally.missed(f"{one.name}, {plan.point}, passed by as {way}", describe(found))
    shutil.rmtree(root)
    return reached is not None


def _pass_by(plan: Plan, root: str, stopped: Actor, seen: Seen, tally: Tally) -> None:
    """The successor has its turn beside the stopped one, or is told why it cannot."""
    guarded = any(flock_holder(os.stat(path)) == stopped.pid for path in _guards(Path(root)))
    with actor("passing", _passes(plan, root)) as passing:
        try:
            answer = passing.next()
            while answer is not None and not isinstance(answer, (Blocked, Through)):
                seen.note(answer)
                answer = passing.next()
            if isinstance(answer, Blocked):
                tally.counts["of them inside a guard, and named"] += 1
                _check_blame(answer, guarded, stopped, seen)
                _clear_the_way(plan, stopped, seen)
                passing.go_on()
                passing.until(Through, seen.note)
                passing.go_on()
            else:
                tally.counts["passed by at once"] += 1
                _is_superseded(seen)
                if plan.story.name in _PROMPT or _has_turn(seen, stopped):
                    tally.counts["woken while their successor holds"] += 1
                    stopped.send(signal.SIGCONT)
                    seen.note(stopped.until(Left, seen.note))
                passing.go_on()
            passing.ended(seen.note)
        except Overdue as overdue:
            seen.note(Violation("I8", f"{overdue}; {plan.point}, guarded: {guarded}"))


def _guards(root: Path) -> Iterator[Path]:
    """What can be guarded: transcripts, and where there is none the directory."""
    yield from root.glob("agents/*/sessions/*.jsonl")
    yield from root.glob("agents/*/sessions")


def _check_blame(blocked: Blocked, guarded: bool, stopped: Actor, seen: Seen) -> None:
    if not guarded:
        seen.note(Violation("I8", "a successor waits for a guard that nobody who is stopped has"))
    if blocked.pid != stopped.pid or not (blocked.state or "").startswith("T"):
        seen.note(Violation("I8", f"process {stopped.pid} is stopped, and blamed is {blocked}"))


def _clear_the_way(plan: Plan, stopped: Actor, seen: Seen) -> None:
    if plan.resumes:
        _wake(stopped, seen)
    else:
        stopped.send(signal.SIGKILL)
        stopped.ended(seen.note)
        seen.died(stopped.name)


def _wake(stopped: Actor, seen: Seen) -> None:
    stopped.send(signal.SIGCONT)
    with noting_overdue(seen):
        status = stopped.ended(seen.note)
        if status:
            seen.note(Violation("I11", f"who was woken ended with status {status}"))


def _is_superseded(seen: Seen) -> None:
    """Whoever had the session when the successor was through has lost it."""
    for event in _open_turns(seen):
        if not event.turn_id.startswith("passing"):
            seen.note(Revoked(now(), event.turn_id, "superseded"))


def _has_turn(seen: Seen, stopped: Actor) -> bool:
    """Whether it is in a turn, of which it is told the end as soon as it runs."""
    return any(event.turn_id.startswith(f"{stopped.name}-") for event in _open_turns(seen))


def _open_turns(seen: Seen) -> list[Granted]:
    left = {event.turn_id for event in seen.events if isinstance(event, Left)}
    granted = [event for event in seen.events if isinstance(event, Granted)]
    dead = {event.process for event in seen.events if isinstance(event, Died)}
    return [
        one for one in granted if one.turn_id not in left and one.turn_id.split("-")[0] not in dead
    ]


def _passes(plan: Plan, root: str) -> Callable[[Wire], None]:
    def work(wire: Wire) -> None:
        quiet()
        ahead = _AHEAD if plan.as_waiter else 0.0
        store = plan.story.open(root, ahead=ahead, guard_timeout=_GUARD_TIMEOUT)
        client = Client(store, wire.tell, "passing", prefix="passing-")

        def stays(turn: OneTurn) -> None:
            wire.tell(Through())
            wire.wait()

        *others, last = plan.story.sessions
        for session in others:
            _pass(client, wire, session, plan.as_waiter)
        _pass(client, wire, last, plan.as_waiter, stays, appends())

    return work


def _pass(
    client: Client,
    wire: Wire,
    session: str,
    as_waiter: bool,
    *more: Callable[[OneTurn], object],
) -> None:
    """One turn; when a guard is in the way, once more after that."""
    for attempt in (1, 2):
        client.forget()
        outcome = None
        # Who was in the way, and woke, may be in the middle of its own turns.
        wait = PATIENCE if attempt == 2 else 0.0
        if as_waiter or _revoked(client, session):
            outcome = client.turn(
                session, f"{session}-{attempt}", reads, appends(), *more, wait=wait
            )
        if outcome is Outcome.OK:
            return
        error = client.error
        if attempt == 2 or not isinstance(error, GuardTimeout):
            client.violates("I8", f"its turn on {session} ended {outcome}: {error}")
            return
        wire.tell(Blocked(error.pid, error.state))
        wire.wait()


def _revoked(client: Client, session: str) -> bool:
    try:
        client.store.revoke(session)
    except (StoreError, LockPathError) as error:
        client.erred(error)
        return False
    return True
