"""The public face: a store of sessions, and the turns on them."""

from __future__ import annotations

import enum
import os
import sys
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .backends import Backend, LockRecord, SessionRecord, TakeRequest, Whose
from .backends.locations import open_backend
from .block import TurnBlock
from .clock import Clock
from .errors import StoreError, TurnlockError
from .events import Subscriber
from .limits import DEFAULT_MAX_HOLD, DEFAULT_WAIT, Limits, check_limit
from .session import SessionKey, parse_key
from .transcript.entries import REASONS, Entry
from .transcript.jsonl import Line, entries_of
from .transcript.tail import Tail
from .turns.queue import queues
from .turns.revoking import (
    MARKER_TIMEOUT,
    REVOKER_MAX_HOLD,
    Settlement,
    ended_as_lost,
    report_reclaimed,
    revoke,
    revoke_all,
    settle_and_release,
    was_revoked,
)
from .turns.runtime import LeaseRecord, Runtime, Statistics, Zombie, closed_error
from .turns.sync import OpenTurn
from .turns.taking import Wanted, held_here, wanted
from .turns.watching import Budget

if TYPE_CHECKING:
    from .copying import Copied
    from .pruning import Pruned
    from .turns.aio import OpenAsyncTurn

# Stands for the key that a decorator makes of its function's arguments.
_NO_KEY = SessionKey("main", "main")


class Default(enum.Enum):
    """Stands for a value from the store's limits."""

    LIMITS = enum.auto()


class SessionStatus(NamedTuple):
    """One session at one moment. ``record`` is None before it has a transcript, ``lock`` while
    nobody holds it. ``end`` is that of the transcript, with its last turns, newest first.
    """

    record: SessionRecord | None
    lock: LockRecord | None
    end: Tail
    waiters: int


class WrongContext(TurnlockError, RuntimeError):
    """``with`` on the thread of a running event loop, where it would block the loop."""

    def __init__(self) -> None:
        super().__init__("this thread runs an event loop: use 'async with' for the turn")


class NoLoop(TurnlockError, RuntimeError):
    """``async with`` where no event loop of asyncio runs, as under trio."""

    def __init__(self) -> None:
        super().__init__("no event loop of asyncio runs in this thread: use 'with' for the turn")


class Store:
    """Sessions in one place. Open one with `open_store`; it may be shared by threads and tasks.

    A store has no state on the disk of its own: two stores on one directory, in one process or in
    many, see the same sessions and respect each other's turns.
    """

    def __init__(
        self,
        backend: Backend[Any],
        *,
        location: str,
        limits: Limits | None = None,
        secrets: Iterable[str] = (),
        clock: Clock | None = None,
    ) -> None:
        self.location = location
        self.limits = limits or Limits()
        self._backend = backend
        self._runtime = Runtime(clock=clock, secrets=secrets)

    @property
    def leases_expire(self) -> bool:
        """Whether a lease that is not renewed runs out: then `reclaim_expired` is worth repeating.

        So it is in a database, where nobody is told that a holder's host died.
        """
        return self._backend.leases_expire

    # Turns

    def turn(
        self,
        key: str,
        *,
        wait: float | Default | None = Default.LIMITS,
        max_hold: float | Default = Default.LIMITS,
        max_stall: float | None = None,
        turn_id: str | None = None,
    ) -> TurnBlock:
        """A turn on a session: ``with``, ``async with``, or a decorator.

        ``wait``: seconds to wait for a busy session, then `SessionBusy`; 0 tries once, None waits
        for ever. ``max_hold``: seconds after which the session is taken from the turn; the turn's
        task is cancelled and the block raises `LeaseRevoked`. ``max_stall``: the same for seconds
        without progress (content under ``watch``, an append, ``progress()``); None is off.
        ``turn_id``: the turn's name in claims, markers and logs; random by default. ``wait`` and
        ``max_hold`` default to 60 and 300, or to what ``limits`` of the store were given.

        A block that ends well leaves a terminal entry if it wrote anything. One that raises, or is
        cancelled or revoked, leaves an error marker, before anyone else can have the session.

        As a decorator ``@store.turn("main/{user}")`` names the session after the function's
        arguments, and the turn is ``turnlock.current_turn()``. A function that yields cannot be
        decorated, as it runs later than its call; nor is there a ``turn_id`` for all calls. A block
        that is entered again is another turn, with an id of its own.

        Raises `InvalidSessionKey` and `LimitsError` at once; on entering `SessionBusy`,
        `AlreadyHeld`, `LockPathError`, `TranscriptError`, `StoreError`, and `LeaseRevoked` when the
        session was taken from the turn before its block began.
        """
        limits = self.limits
        if wait is Default.LIMITS:
            wait = limits.wait if "wait" in limits.written else DEFAULT_WAIT
        if max_hold is Default.LIMITS:
            max_hold = limits.max_hold if "max_hold" in limits.written else DEFAULT_MAX_HOLD
        # Checked now, where the mistake is, and not when the turn is entered.
        template = key if isinstance(key, str) and "{" in key else None
        want = wanted(
            _NO_KEY if template else parse_key(key),
            wait=wait,
            max_hold=max_hold,
            max_stall=max_stall,
            turn_id=turn_id,
        )
        return TurnBlock(self, want, template)

    def identity(self, key: str) -> Hashable:
        """What a session is known by: equal for two stores on one place, and for its turns."""
        return self._backend.identity(parse_key(key))

    # Reading

    def read(self, key: str) -> Iterator[Entry]:
        """The session's entries, oldest first; the header is none. Needs no lock.

        Nothing for a session that does not exist. A damaged line is left out (``read_lines`` shows
        it, and the log counts it), and so is a fragment at the end, as its append was never
        acknowledged; one that lacks nothing but its newline is read.
        """
        session = parse_key(key)
        return entries_of(self._backend.read(session), str(session))

    def read_lines(self, key: str, *, start: int = 0) -> Iterator[Line]:
        """Every complete line with its offset, header and damaged ones (``entry`` None) too.

        ``start``: the offset of the line to begin with, from `find` or the ``end`` of a line.
        """
        return self._backend.read(parse_key(key), start=start)

    def find(self, key: str, identity: str) -> int | None:
        """The offset of the entry with this id; None when the session has none.

        Reads the transcript up to there, and decodes little else of it, unless the id has other
        characters than ours have.
        """
        return self._backend.find(parse_key(key), identity)

    def sessions(self, *, after: str | None = None) -> Iterator[SessionRecord]:
        """Every session, in a fixed order; those behind the key ``after`` only, when given."""
        return self._backend.sessions(after=None if after is None else parse_key(after))

    def status(self, key: str, *, turns: int = 2) -> SessionStatus:
        """A session with its lock and the end of its transcript, back to its last ``turns`` turns.

        Needs no lock and changes nothing; each part is of its own moment.
        """
        session = parse_key(key)
        locks = self._backend.locks(stale_after=self.limits.stale_after, session=session)
        return SessionStatus(
            self._backend.record(session),
            next(iter(locks), None),
            self._backend.end(session, turns=turns),
            self.waiters([key])[key],
        )

    # Locks

    def locks(self) -> list[LockRecord]:
        """Every lock with its holder and the verdict on it. Changes nothing."""
        return list(self._backend.locks(stale_after=self.limits.stale_after))

    def clean_stale(
        self, stale_after: float | None = None, *, patience: float = MARKER_TIMEOUT
    ) -> list[LockRecord]:
        """Supersede and remove the stale locks, and write the error markers that they owe.

        ``stale_after`` (default: the store's limit, 1800 s) is the age from which a foreign lock
        without start time counts as stale. ``patience`` (default 1): seconds to wait for each, on a
        disk that is slow or hangs. Returns every lock, with ``removed`` for those that were; one
        that takes longer is removed, and logged, later. A lock that cannot be judged or removed is
        logged and left; it stops nothing.
        """
        after = self._stale_after(stale_after)
        found = list(self._backend.locks(stale_after=after))
        return [
            self.clean(record, after, patience=patience) if record.stale else record
            for record in found
        ]

    def _stale_after(self, asked: float | None) -> float:
        if isinstance(asked, (int, float)) and asked > 0:
            # Also for ever, which as a limit is taken for a mistake.
            return asked
        return check_limit("stale_after", asked, optional=True) or self.limits.stale_after

    def reclaim_expired(self, *, but: Collection[str] = ()) -> list[LockRecord]:
        """`clean_stale`, of the leases that ran out alone: cheap enough to be repeated for ever.

        ``but``: sessions that are left alone, as their markers could not be written a moment ago.
        Returns the others, with ``removed``; nothing where leases do not run out.
        """
        expired = list(self._backend.expired())
        return [self.clean(record) for record in expired if record.session not in but]

    def clean(
        self,
        record: LockRecord,
        stale_after: float | None = None,
        *,
        patience: float = MARKER_TIMEOUT,
    ) -> LockRecord:
        """Remove one lock that `locks` called stale, if it still is; logs it, or why not."""
        from .cleaning import clean_lock

        after = self._stale_after(stale_after)
        return clean_lock(self._runtime, self._backend, record, after, patience).record

    def waiters(self, keys: Iterable[str]) -> dict[str, int]:
        """How many wait for each session: all of this process, and one of each other process."""
        sessions = {key: parse_key(key) for key in keys}
        in_line = self._backend.in_line(sessions.values())
        identities = {key: self._backend.identity(session) for key, session in sessions.items()}
        queued = {key: queues.turn_ids(identity) for key, identity in identities.items()}
        # Once for all of them: there may be thousands of each.
        held = held_here()
        return {
            key: _waiting(queued[key], in_line[session], is_held=identities[key] in held)
            for key, session in sessions.items()
        }

    def leases(self) -> list[LeaseRecord]:
        """The turns of this store that hold their sessions, with what they are at."""
        return self._runtime.lease_records()

    def revoke(
        self, key: str, reason: str = "operator", *, turn_id: str | Whose | None = Whose.ANYONES
    ) -> bool:
        """Take a session from whoever holds it, and free it; whether anybody held it.

        ``turn_id``: only from the turn with this id, and None only from a holder that names no
        turn; nothing is done to any other. The holder is fenced, told (its task is cancelled if it
        is of this process) and marked. Where somebody else is revoking that turn already, this
        waits a moment for it. ``reason``: one of those of error markers. Raises `LockPathError` for
        a lock whose holder nobody here can fence or judge, and ValueError for another reason.
        """
        session = parse_key(key)
        _check_reason(reason)
        # Also for another store of this process: its holder is told at once, and not by a look.
        # A lease that is lost already, and not found out yet, hides whoever holds now.
        identity = self._backend.identity(session)
        for runtime in Runtime.all():
            for lease in runtime.leases():
                if lease.ticket.identity == identity and not ended_as_lost(runtime, lease):
                    mine = lease.turn_id if lease.is_turn else None
                    if turn_id not in (mine, Whose.ANYONES):
                        return False
                    return revoke(runtime, lease, reason) or was_revoked(runtime, lease)
        return self.supersede(key, reason, turn_id=turn_id) is not None

    def supersede(
        self,
        key: str,
        reason: str = "operator",
        *,
        turn_id: str | Whose | None = Whose.ANYONES,
        patience: float = MARKER_TIMEOUT,
    ) -> Settlement | None:
        """`revoke`, from a holder in another process; what became of its marker.

        None when nobody held the session, or not the turn with ``turn_id``. Waits ``patience``
        seconds (default 1) for a marker that a slow disk delays, or one that hangs. Raises as
        `revoke` does.
        """
        session = parse_key(key)
        _check_reason(reason)
        request = TakeRequest(None, REVOKER_MAX_HOLD, header=False)
        held = self._backend.supersede(session, request, lease=None, reason=reason, turn_id=turn_id)
        if held is None:
            return None
        report_reclaimed(self._runtime, held, str(session))
        return settle_and_release(
            self._runtime, self._backend, held, str(session), patience=patience
        )

    def check_leases(self) -> list[str]:
        """Run the watchdog's rule now: revoke what is over a limit; ids of the turns."""
        return self._runtime.check_leases()

    def statistics(self) -> Statistics:
        """Counters of this store since it was opened."""
        return self._runtime.statistics()

    def zombies(self) -> list[Zombie]:
        """Revoked holders of this store that still run."""
        return self._runtime.zombies()

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Call ``subscriber`` with every event of this store; returns what ends that."""
        return self._runtime.events.subscribe(subscriber)

    def keep_secret(self, *values: str) -> None:
        """Keep further values out of error markers and logs, from now on."""
        self._runtime.secrets += values

    # Life

    def copy_from(self, other: Store, key: str) -> Copied:
        """Copy a session of another store into this one, or add what is missing; see `copying`.

        Touches nothing when another session of that name is here already, when somebody holds it in
        either store, when its last turn has no terminal entry yet, or when the other store has no
        such session. Raises `StoreError` and `TranscriptError`; what was added until then stays,
        and the next call goes on with it.
        """
        from .copying import copy_session

        return copy_session(other._backend, self._backend, parse_key(key))

    def idle(self, seconds: float) -> Iterator[SessionRecord]:
        """Sessions that were last written so many seconds ago or earlier, by the storage's clock.

        Whether somebody holds one of them, or waits for it, is another matter. Raises `LimitsError`
        for what is no number of seconds.
        """
        from .pruning import idle_sessions

        return idle_sessions(self._backend, seconds)

    def prune(self, key: str, *, idle: float, archive: Store | None) -> Pruned:
        """Take a session away that was not written for ``idle`` seconds; see `pruning`.

        ``archive``: a store that gets a copy before that; None for none. Nothing is done to a
        session that somebody holds, that was used meanwhile, whose last turn has no terminal
        entry yet, or that the archive cannot take whole. Raises `StoreError` and
        `TranscriptError`; then the session is still there, unless to give it back failed.
        """
        from .pruning import prune_session

        into = None if archive is None else archive._backend
        return prune_session(self._backend, parse_key(key), idle=idle, archive=into)

    def close(self) -> None:
        """End the turns that are still open, with a marker each. Idempotent.

        Who waits for a session gets `StoreError`; no turn of this store begins any more. Blocks
        for as long as the storage does, without a limit; the turns are told within 2 s even so.
        """
        self._runtime.close()
        revoke_all(self._runtime, "cancelled")
        self._runtime.watchdog.rest()
        self._backend.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Store:
        return self

    async def __aexit__(self, *exc: object) -> None:
        from .turns.aio import on_worker

        await on_worker(self.close, or_here=True)

    def __repr__(self) -> str:
        return f"<Store {self.location}>"

    def _open(self, want: Wanted) -> OpenTurn:
        self._check_open()
        if is_loop_running():
            raise WrongContext
        return OpenTurn(self._runtime, self._backend, want)

    def _open_async(self, want: Wanted) -> OpenAsyncTurn:
        self._check_open()
        if not is_loop_running():
            raise NoLoop
        from .turns.aio import OpenAsyncTurn

        return OpenAsyncTurn(self._runtime, self._backend, want)

    def _budget(self) -> Budget:
        return Budget(self.limits.first_token, self.limits.idle, "model", None)

    def _check_open(self) -> None:
        if self._runtime.is_closed:
            raise closed_error(self.location)


def _waiting(queued: Sequence[str], in_line: int, *, is_held: bool) -> int:
    # The head of the queue holds the session, or else stands in line itself.
    behind = max(len(queued) - 1, 0)
    return behind + (in_line if is_held or not queued else max(in_line, 1))


def open_store(
    path_or_url: str | os.PathLike[str] | None = None,
    *,
    limits: Limits | None = None,
    secrets: Iterable[str] = (),
    durability: str = "fsync",
) -> Store:
    """Open a store of sessions.

    ``path_or_url``: a state directory, made when something is written; ``postgresql://…``, a
    database whose tables ``turnlock db migrate`` has made; ``memory:`` for tests; by default
    ``$TURNLOCK_STATE_DIR`` or the platform's data directory. ``secrets`` are values that
    error markers and logs must not hold. ``durability``: ``fsync`` (what is acknowledged survives
    power loss) or ``none`` (it survives the death of the process).

    Raises `StoreError` for a place that can be none, and on systems without flock (Windows). A
    database is connected to by the first call that needs it.
    """
    if path_or_url is None:
        from .config import default_state_directory

        path_or_url = default_state_directory()
    location: str | bytes = os.fspath(path_or_url)
    if isinstance(location, bytes):
        hint = "give os.fsdecode() of it"
        raise StoreError(f"{location!r}", "open", "a path is text here, not bytes", hint)
    backend, shown = open_backend(location, durability=durability)
    return Store(backend, location=shown, limits=limits, secrets=secrets)


def _check_reason(reason: str) -> None:
    """What it says goes into the transcript, and to whoever takes the session over."""
    if reason not in REASONS:
        raise ValueError(f"reason is {reason!r:.100}; it is one of {', '.join(REASONS)}")


def is_loop_running() -> bool:
    # Without asyncio there is no loop, and importing it would cost more than the take.
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None
