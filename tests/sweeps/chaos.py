"""Real processes under random SIGKILL, SIGSTOP and SIGCONT, for some seconds.

Writers take sessions, append, read, fail, and hang past their limits; operators revoke; doctor and
start-up clean-up come in between; a killed process is followed by another. The sessions are others
every few seconds, so that transcripts stay short and every session is begun, too. When all is over
the oracle judges what the clients saw, and so does the checker of `linear`.

A seed draws what is done, and not how it falls: processes are real. A failure leaves its history
and its state directory behind, to be looked at.
"""

from __future__ import annotations

import os
import pickle
import random
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.oracle import Acked, Died, Granted, Record, Revoked, Stopped, Violation
from turnlock.backends.files import waiting
from turnlock.doctor.examine import examine
from turnlock.errors import GuardTimeout
from turnlock.store import open_store

from . import linear
from .actors import Actor, Wire
from .clients import Client, OneTurn, appends, fails, now, reads, tells_epoch
from .pool import Work, spread
from .scenes import Seen, describe, noting_overdue, quiet, verdict
from .tally import Tally

_WRITERS = 3
_SESSIONS = 3
# The sessions are others every so many seconds.
_GENERATION = 2.0
_MAX_HOLD = 0.3
# Of a hundred things that happen.
_HAPPENS = ("kill", "stop", "doctor", "clean", "revoke")
_ODDS = (30, 40, 5, 10, 15)
# What a holder's own watchdog did not do is done by a waiter: soon, so that it happens often.
_GRACE = 0.3
_PATIENCE = 60.0


def quick(work: Work) -> Work:
    return work._replace(seconds=3.0)


class Times(NamedTuple):
    """When a host began, and until when it goes on."""

    began: float
    until: float

    def generation(self) -> int:
        return int((time.monotonic() - self.began) / _GENERATION)


class Round(NamedTuple):
    seed: int
    seconds: float
    at: Path


def sweep(work: Work) -> Tally:
    tally = Tally()
    rounds = [
        Round(work.seed * work.jobs + number, work.seconds, work.at / f"chaos-{number}")
        for number in range(work.jobs)
    ]
    for found in spread(work, rage, rounds):
        tally.add(found)
    return tally


def rage(chaos: Round) -> Tally:
    """One host for that long."""
    vars(waiting)["OVER_LIMIT_GRACE"] = _GRACE
    host = Host(chaos)
    try:
        host.run()
    finally:
        host.end()
    return host.judged()


class Host:
    """The processes of one state directory, and who kills and stops them."""

    def __init__(self, chaos: Round) -> None:
        self.random = random.Random(chaos.seed)
        self.tally = Tally()
        self.seen = Seen()
        self._chaos = chaos
        self._root = str(chaos.at / "state")
        os.makedirs(self._root)
        self._times = Times(time.monotonic(), time.monotonic() + chaos.seconds)
        self._actors: list[Actor] = []
        self._wakes: dict[str, float] = {}
        self._count = 0

    # While it lasts

    def run(self) -> None:
        for _ in range(_WRITERS):
            self._start("writer", _writes)
        while (left := self._times.until - time.monotonic()) > 0:
            self._listen(min(left, self.random.expovariate(1 / 0.03)))
            self._wake(time.monotonic())
            self._act()
        self._wake(float("inf"))
        self._wait_for_all()

    def end(self) -> None:
        for one in self._actors:
            one.close()

    def _start(self, kind: str, work: Callable[[Client, random.Random, Times], object]) -> None:
        self._count += 1
        name = f"{kind}{self._count}"
        drawn = random.Random(self.random.getrandbits(32))
        root, times = self._root, self._times

        def run(wire: Wire) -> None:
            quiet()
            client = Client(open_store(root), wire.tell, name, prefix=f"{name}-")
            work(client, drawn, times)

        self._actors.append(Actor(name, run))

    def _act(self) -> None:
        """One of the things that happen to a host."""
        writers = [one for one in self._actors if one.name.startswith("writer")]
        running = [one for one in writers if one.name not in self._wakes]
        match self.random.choices(_HAPPENS, _ODDS)[0]:
            case "kill" if writers:
                self._kill(self.random.choice(writers))
            case "stop" if running:
                self._stop(self.random.choice(running))
            case "doctor":
                self._start("doctor", _repairs)
            case "clean":
                self._start("cleaner", _cleans)
            case "revoke":
                self._start("operator", _operates)

    def _kill(self, one: Actor) -> None:
        one.send(signal.SIGKILL)
        self._hear_out(one)
        self.tally.fired["kill"] += 1
        self._start("writer", _writes)

    def _stop(self, one: Actor) -> None:
        one.send(signal.SIGSTOP)
        # Short ones often, and some for longer than any limit.
        wakes = time.monotonic() + self.random.choice((0.02, 0.1, 0.4, 1.2))
        self._wakes[one.name] = wakes
        self.seen.note(Stopped(now(), one.name, wakes))
        self.tally.fired["stop"] += 1

    def _wake(self, until: float) -> None:
        for one in self._actors:
            if self._wakes.get(one.name, float("inf")) <= until and one.name in self._wakes:
                del self._wakes[one.name]
                one.send(signal.SIGCONT)

    def _listen(self, seconds: float) -> None:
        """Note what is told meanwhile."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            ready, _, _ = select.select(self._actors, [], [], left)
            for one in ready:
                if one.read():
                    self._note(one)
                else:
                    self._hear_out(one)

    def _hear_out(self, one: Actor) -> None:
        """It has ended, or will in a moment: note the rest, and what became of it."""
        status = one.ended(self.seen.note)
        if os.WIFSIGNALED(status):
            self.seen.note(Died(now(), one.name))
        elif status:
            self.seen.note(Violation("I11", f"{one.name} ended with {status}"))
        self._wakes.pop(one.name, None)
        self._actors.remove(one)
        one.close()

    def _note(self, one: Actor) -> None:
        for told in one.told():
            self.seen.note(told)

    def _wait_for_all(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        while self._actors and time.monotonic() < deadline:
            self._listen(0.01)
        for one in self._actors:
            self.seen.note(Violation("I8", f"{one.name} did not come to its end"))

    # When it is over

    def judged(self) -> Tally:
        transcripts: dict[str, tuple[Record, ...]] = {}
        sessions = sorted(record.session for record in self._in_child())
        found = verdict(sessions, self._root, self.seen, tolerant=True, finals=transcripts)
        history = self.seen.history()
        operations, unexplained = linear.check(history, transcripts)
        errors = [
            Violation("I11", f"{who}: {error}")
            for who, error in self.seen.errors
            if not error.startswith(GuardTimeout.__name__)
        ]
        violations = [*found, *unexplained, *errors]
        self._sum_up(operations, len(sessions))
        if violations:
            kept = self._keep()
            self.tally.missed(f"seed {self._chaos.seed}, kept in {kept}", describe(violations))
        shutil.rmtree(self._chaos.at)
        return self.tally

    def _in_child(self) -> list[Any]:
        """The sessions that there are, asked by a process that may open a store."""
        found: list[Any] = []

        def lists(wire: Wire) -> None:
            for record in open_store(self._root).sessions():
                wire.tell(record)

        lister = Actor("lister", lists)
        try:
            with noting_overdue(self.seen):
                lister.ended(found.append)
        finally:
            lister.close()
        return found

    def _sum_up(self, operations: int, sessions: int) -> None:
        counts, events = self.tally.counts, self.seen.events
        counts["sessions"] = sessions
        counts["turns granted"] = sum(isinstance(one, Granted) for one in events)
        counts["appends acknowledged"] = sum(isinstance(one, Acked) for one in events)
        counts["revocations seen"] = sum(isinstance(one, Revoked) for one in events)
        counts["errors of a guard"] = sum(
            error.startswith(GuardTimeout.__name__) for _, error in self.seen.errors
        )
        counts["operations linearized"] = operations

    def _keep(self) -> Path:
        kept = Path(tempfile.gettempdir()) / f"turnlock-chaos-{self._chaos.seed}"
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(self._root, kept / "state")
        (kept / "history.pickle").write_bytes(pickle.dumps(list(self.seen.history())))
        return kept


# What processes do


def _writes(client: Client, drawn: random.Random, host: Times) -> None:
    """Turns, one after the other, until it is killed or the time is up."""
    number = 0
    while time.monotonic() < host.until:
        number += 1
        steps = [drawn.choices(_STEPS, _STEP_ODDS)[0] for _ in range(drawn.randrange(1, 8))]
        session = f"main/{host.generation()}-{drawn.randrange(_SESSIONS)}"
        wait = drawn.choice((0.0, 0.5, 5.0))
        client.turn(session, str(number), *steps, wait=wait, max_hold=_MAX_HOLD)


def _hangs(turn: OneTurn) -> None:
    """Past every limit, and then writes on."""
    deadline = time.monotonic() + 10 * _MAX_HOLD
    while not turn.turn.revoked and time.monotonic() < deadline:
        time.sleep(0.005)
    turn.append()


def _thinks(turn: OneTurn) -> None:
    time.sleep(0.01)


_STEPS = (appends(), reads, _thinks, _hangs, fails, tells_epoch)
_STEP_ODDS = (70, 8, 10, 2, 2, 8)


def _repairs(client: Client, drawn: random.Random, host: Times) -> None:
    with client.noting_errors():
        report = examine(client.store.location, fix=True)
        if any(found.check == "check-crashed" for found in report.findings):
            client.violates("I11", f"doctor crashed: {report.findings}")


def _cleans(client: Client, drawn: random.Random, host: Times) -> None:
    with client.noting_errors():
        client.store.clean_stale()


def _operates(client: Client, drawn: random.Random, host: Times) -> None:
    with client.noting_errors():
        held = [one for one in client.store.locks() if one.session and one.turn_id]
        if held:
            one = drawn.choice(held)
            client.revoke(str(one.session), str(one.turn_id))
