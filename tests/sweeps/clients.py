"""What an actor does with a store, noted as the oracle wants to hear it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import turnlock
from tests.oracle import (
    Acked,
    Asked,
    Began,
    EpochTold,
    Granted,
    Leaving,
    Left,
    MarkerOwed,
    Outcome,
    Read,
    Revoked,
    Violation,
    records,
)
from turnlock.backends.files import FilesBackend, Platform, StateDirectory
from turnlock.backends.files.guard import GUARD_TIMEOUT
from turnlock.clock import SystemClock
from turnlock.events import Event
from turnlock.events import MarkerOwed as Owed
from turnlock.store import Store
from turnlock.turns.sync import Turn

now = time.monotonic
Note = Callable[[object], None]


class Ahead(SystemClock):
    """A clock that is ahead by so many seconds: for who reads it, holds are past their limits."""

    def __init__(self, seconds: float) -> None:
        monotonic, wall = SystemClock.monotonic, SystemClock.wall
        self.monotonic = lambda: monotonic() + seconds
        self.wall = lambda: wall() + seconds


def open_files(
    root: str,
    *,
    ahead: float = 0.0,
    guard_timeout: float = GUARD_TIMEOUT,
    platform: Platform | None = None,
    durability: str = "fsync",
) -> Store:
    """A store as ``open_store`` makes it, with what a sweep has to choose itself."""
    clock = Ahead(ahead) if ahead else None
    backend = FilesBackend(
        StateDirectory(root),
        clock=clock,
        platform=platform,
        guard_timeout=guard_timeout,
        durability=durability,
    )
    return Store(backend, location=root, clock=clock)


class Client:
    """One process's turns on a store. ``process`` is its name in the history."""

    def __init__(self, store: Store, note: Note, process: str, *, prefix: str = "") -> None:
        self.store = store
        self.note = note
        self.process = process
        self.prefix = prefix
        self.error: turnlock.TurnlockError | None = None
        store.subscribe(self._seen)

    def turn(
        self,
        session: str,
        name: str,
        *steps: Callable[[OneTurn], object],
        wait: float = 0.0,
        max_hold: float = 300.0,
    ) -> Outcome:
        """A turn of that name, with these steps. Notes all of it; raises nothing of Turnlock's."""
        # Ids of entries are made of it, and no such id has a slash.
        turn_id = (self.prefix + name).replace("/", "=")
        self.note(Asked(now(), turn_id, session, self.process, max_hold=max_hold))
        outcome = self._run(session, turn_id, steps, wait, max_hold)
        self.note(Left(now(), turn_id, outcome))
        return outcome

    def read(self, session: str, turn_id: str | None = None) -> None:
        began = now()
        seen = records(self.store.read(session))
        self.note(Read(now(), session, seen, began, turn_id))

    def revoke(self, session: str, turn_id: str) -> bool:
        """As an operator, from that turn; whether it was done."""
        done = False
        with self.noting_errors():
            done = self.store.revoke(session, turn_id=turn_id)
        if done:
            self.note(Revoked(now(), turn_id, "operator"))
        return done

    @contextmanager
    def noting_errors(self) -> Iterator[None]:
        """For what is no turn: an error of Turnlock's is noted, any other passes."""
        try:
            yield
        except turnlock.TurnlockError as error:
            self.erred(error)

    def forget(self) -> None:
        self.error = None

    def erred(self, error: turnlock.TurnlockError) -> None:
        self.error = error
        self.note(Erred(self.process, f"{type(error).__name__}: {error}"))

    def violates(self, invariant: str, what: str) -> None:
        self.note(Violation(invariant, f"{self.process}: {what}"))

    def _run(
        self,
        session: str,
        turn_id: str,
        steps: tuple[Callable[[OneTurn], object], ...],
        wait: float,
        max_hold: float,
    ) -> Outcome:
        try:
            with self.store.turn(session, wait=wait, max_hold=max_hold, turn_id=turn_id) as turn:
                self.note(Granted(now(), turn_id))
                one = OneTurn(self, session, turn)
                for step in steps:
                    step(one)
                self.note(Leaving(now(), turn_id))
        except turnlock.SessionBusy:
            return Outcome.BUSY
        except turnlock.LeaseRevoked as error:
            self.note(Revoked(now(), turn_id, error.reason))
            return Outcome.REVOKED
        except Failed:
            return Outcome.FAILED
        except turnlock.TurnlockError as error:
            self.erred(error)
            return Outcome.FAILED
        return Outcome.OK

    def _seen(self, event: Event) -> None:
        if isinstance(event, Owed):
            self.note(MarkerOwed(now(), event.turn_id))


class Erred(NamedTuple):
    """A process had an error of Turnlock's."""

    process: str
    error: str


class Failed(Exception):
    """What a turn's block raises because its story says so."""


class OneTurn:
    """An open turn, with its steps."""

    def __init__(self, client: Client, session: str, turn: Turn) -> None:
        self.client = client
        self.turn = turn
        self._session = session
        self._appended = 0

    def append(self, number: int = 1, *, again: bool = False) -> None:
        """Append so many entries at once. ``again``: with one more that is there already."""
        turn_id = self.turn.turn_id
        last = f"{turn_id}-{self._appended}"
        ids = tuple(f"{turn_id}-{self._appended + n}" for n in range(1, number + 1))
        self._appended += number
        began = now()
        self.client.note(Began(began, turn_id, ids))
        wanted = (last, *ids) if again else ids
        got = self.turn.append(*({"id": one} | turnlock.user(one) for one in wanted))
        self.client.note(Acked(now(), turn_id, tuple(got), began))

    def tell_epoch(self) -> None:
        epoch = self.turn.epoch
        self.client.note(EpochTold(now(), self.turn.turn_id, epoch))

    def read(self) -> None:
        self.client.read(self._session, self.turn.turn_id)


def appends(number: int = 1, *, again: bool = False) -> Callable[[OneTurn], None]:
    return partial(OneTurn.append, number=number, again=again)


def fails(turn: OneTurn) -> None:
    raise Failed


tells_epoch = OneTurn.tell_epoch
reads = OneTurn.read
