"""The session service: ADK's sessions as sessions of a store."""

from __future__ import annotations

import asyncio
import functools
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, nullcontext
from typing import Any, NamedTuple

from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from google.adk.runners import Runner
from google.adk.sessions import BaseSessionService, Session
from google.adk.sessions.base_session_service import GetSessionConfig, ListSessionsResponse
from google.adk.sessions.state import State
from pydantic import PrivateAttr

from ...clock import SystemClock
from ...errors import AlreadyHeld, LeaseRevoked
from ...store import Default, Store
from ...transcript.entries import Entry
from ...transcript.history import active_branch
from ...turns import scope
from ...turns.aio import on_worker
from ...turns.sync import Turn
from . import contents
from .contents import Contents, Deltas, Who, deltas_of
from .events import entries_of_event, stored_state
from .keys import Key, agent, app_state, default_key, user_state
from .running import Events, Run, current_run
from .watching import watch_models_of

try:
    from google.adk.errors._stale_session_error import StaleSessionError as StaleSessionError
except ImportError:  # older versions have none

    class StaleSessionError(ValueError):  # type: ignore[no-redef]
        """A session object is older than what the store has."""


# Seconds to wait for state that sessions share, which is held for one append at a time. They are no
# option, as a run that did not wait for its session has paid its model by then.
_SHARING_WAIT = 10.0


class _Session(Session):
    """A session as it was read. ``_epoch`` is the last one that the transcript had then."""

    _epoch: int = PrivateAttr(default=0)


class _Reader(NamedTuple):
    """Who was handed a run's latest event, and has yet to ask for the next."""

    task: asyncio.Task[Any] | None
    run: Run


class TurnlockSessionService(BaseSessionService):
    """ADK's sessions in a Turnlock store, for any `Runner`: one run is one turn.

    ``runner.run_async`` (and ``run`` and ``run_debug``, which call it) takes the session before it
    reads the history and before any model is asked. So two runs on one session follow
    each other, in whichever processes. A run that waits longer than ``wait`` seconds raises
    `SessionBusy`, and nothing of it was stored or spent. One that passes a limit, or that an
    operator ends, is cancelled; who asks for its next event gets `LeaseRevoked`, and so does
    ``append_event``, whoever calls it. One that fails leaves an error marker, and a result for each
    call that had none; so does one whose process died, before the next run begins.

    The user's event is durable before the model is asked, each other one before the runner hands
    it out. Model calls have the limits ``first_token`` and ``idle`` of the store.

    ``wait``, ``max_hold``, ``max_stall``: as `Store.turn` has them. ``key`` names a session for the
    store; by default ``<app>/<user>:<session>``. Two sessions must not get one key.

    State: ``app:`` and ``user:`` values are in sessions of their own, ``<app>/app-state`` and
    ``<app>/user-state=2F<user>``; ``temp:`` values are never stored. What is no JSON (a time, a
    set, a model of pydantic, NaN) is stored as the JSON that comes nearest, and comes back as that.
    A change of shared state waits for another one 10 seconds, whatever ``wait`` is.

    Outside of a run, `append_event` and `create_session` take a turn of their own; a session object
    that others wrote behind gets ADK's ``StaleSessionError``, as its database service does. So it
    is for `run_live` and `rewind_async` too: these are no turns, and nothing is lost or mixed
    unnoticed.

    Who reads a run's events may append to its session between two of them: in the run's turn, which
    stands still. That goes for the task that reads them, and this service. A second run on that
    session, or `delete_session`, waits there for the first run, and raises `SessionBusy`.

    Not promised: a deleted session's text stays in its transcript, behind an entry that hides it
    from ADK. Any method may raise `StoreError`, `LockPathError`, `TranscriptError`.
    """

    def __init__(
        self,
        store: Store,
        *,
        wait: float | Default | None = Default.LIMITS,
        max_hold: float | Default = Default.LIMITS,
        max_stall: float | None = None,
        key: Key = default_key,
    ) -> None:
        self.store = store
        self._limits: dict[str, Any] = {"wait": wait, "max_hold": max_hold, "max_stall": max_stall}
        self._key = key
        self._readers: dict[str, _Reader] = {}
        # Refuses limits that are none here, where the mistake is.
        store.turn("main/main", **self._limits)
        _let_runs_be_turns()

    # Turns

    @asynccontextmanager
    async def turn_on(self, key: str) -> AsyncIterator[Any]:
        """The caller's turn on a session if it has one there, even if it is over; else a turn.

        Raises `AlreadyHeld` where that is a thread's: it cannot be awaited.
        """
        run = current_run.get()
        if run is not None and run.key == key:
            outer = run.turn
        else:
            outer = scope.turn_on(self.store.identity(key))
        if outer is not None:
            if isinstance(outer, Turn):
                raise AlreadyHeld(key, outer.turn_id)
            yield outer
        else:
            async with self.store.turn(key, **self._limits) as turn:
                yield turn

    async def run(self, runner: Runner, source: Events, *, user_id: str, session_id: str) -> Events:
        """The events of a run, in a turn. For `running`."""
        key = self._key(runner.app_name, user_id, session_id.strip())
        if not await on_worker(lambda: self._is_there(key)) and not runner.auto_create_session:
            # A run without session fails: that is no reason to make one.
            async with aclosing(source) as events:
                async for event in events:
                    yield event
            return
        run = Run(key, runner.agent.name, self.turn_on(key))
        async with aclosing(run.events(source)) as events:
            async for event in events:
                self._readers[key] = reader = _Reader(asyncio.current_task(), run)
                try:
                    yield event
                finally:
                    if self._readers.get(key) is reader:
                        del self._readers[key]

    def _read_by_caller(self, key: str) -> Run | None:
        """The run on a session which stands still until this task asks for its next event."""
        reader = self._readers.get(key)
        if reader is None or reader.task is not asyncio.current_task() or reader.run.turn.revoked:
            return None
        return reader.run

    def _is_there(self, key: str) -> bool:
        return next(self.store.read_lines(key), None) is not None

    # What ADK asks of a session service

    async def create_session(
        self,
        *,
        app_name: str,
        user_id: str,
        state: dict[str, Any] | None = None,
        session_id: str | None = None,
    ) -> Session:
        """Make a session. Raises ADK's ``AlreadyExistsError``, and `SessionBusy`."""
        who = Who(app_name, user_id, (session_id or "").strip() or str(uuid.uuid4()))
        key = self._key(*who)
        deltas = deltas_of(stored_state(state or {}, key))
        if not (exists := (await self._read(key)).exists):
            async with self.turn_on(key) as turn:
                # Another may have made it since.
                if not (exists := (await self._read(key)).exists):
                    now = SystemClock().wall()
                    await turn.append(contents.created(who, deltas.session, now))
        if exists:
            raise AlreadyExistsError(f"Session with id {who.session} already exists.")
        await self._share(who, deltas, "")
        return await self._session(who, await self._read(key))

    async def get_session(
        self,
        *,
        app_name: str,
        user_id: str,
        session_id: str,
        config: GetSessionConfig | None = None,
    ) -> Session | None:
        """The session with its events and state; None where there is none. Needs no turn."""
        who = Who(app_name, user_id, session_id.strip())
        key = self._key(*who)
        run = current_run.get()
        found = await self._read(key, agent=run.agent if run is not None else "")
        if not found.exists:
            return None
        if run is not None and run.key == key:
            await self._settle(run, who, found)
        session = await self._session(who, found)
        session.events = _wanted(session.events, config)
        return session

    async def list_sessions(
        self, *, app_name: str, user_id: str | None = None
    ) -> ListSessionsResponse:
        """The sessions that ADK made or was in, without events. Reads each transcript whole."""
        found = await on_worker(lambda: self._find(app_name, user_id))
        sessions = [await self._session(one.who, one) for one in found if one.who is not None]
        for session in sessions:
            session.events = []
        sessions.sort(key=lambda one: (one.last_update_time, one.user_id, one.id))
        return ListSessionsResponse(sessions=sessions)

    async def delete_session(self, *, app_name: str, user_id: str, session_id: str) -> None:
        """Hide a session from ADK, for good, once its turn is over. Raises `SessionBusy`."""
        key = self._key(app_name, user_id, session_id.strip())
        if not (await self._read(key)).exists:
            return
        async with self.turn_on(key) as turn:
            await turn.append(contents.deleted())

    async def get_user_state(self, *, app_name: str, user_id: str) -> dict[str, Any]:
        """What is kept for a user, under names without ``user:``."""
        return (await self._read(user_state(app_name, user_id))).state

    async def append_event(self, session: Session, event: Event) -> Event:
        """Append an event; durable when this returns. A partial one is not stored, and one that the
        session has already is not stored again.

        Raises `LeaseRevoked` in a run that lost its session; outside of one ADK's
        ``StaleSessionError`` and ``SessionNotFoundError``, and `SessionBusy`. Nothing was stored.
        """
        if event.partial or any(one.id == event.id and one == event for one in session.events):
            return event
        who = Who(session.app_name, session.user_id, session.id)
        key = self._key(*who)
        entries = entries_of_event(event, key)
        run = current_run.get()
        if run is not None and run.key == key:
            await run.turn.append(*entries)
            run.appended(event)
        else:
            await self._append_alone(key, session, event, entries)
        deltas = deltas_of(stored_state(event.actions.state_delta, key))
        await self._share(who, deltas, event.id)
        await super().append_event(session=session, event=event)
        session.last_update_time = event.timestamp
        return event

    async def _append_alone(
        self, key: str, session: Session, event: Event, entries: list[Entry]
    ) -> None:
        read = self._read_by_caller(key)
        if read is not None:
            try:
                await self._append_in(nullcontext(read.turn), key, session, event, entries)
                read.appended(event)
                return
            except LeaseRevoked:
                if read.turn.revoked:
                    raise
                # Its reader has left the run, which ended meanwhile.
        await self._append_in(self.turn_on(key), key, session, event, entries)

    async def _append_in(
        self,
        block: AbstractAsyncContextManager[Any],
        key: str,
        session: Session,
        event: Event,
        entries: list[Entry],
    ) -> None:
        async with block as turn:
            found = await self._read(key)
            is_stale = isinstance(session, _Session) and found.epoch != session._epoch
            if found.exists and not is_stale:
                if event.id in found.taken and all(one.id != event.id for one in found.events):
                    # By its id the storage would take it for one that it has.
                    for entry in entries:
                        entry.pop("id", None)
                await turn.append(*entries)
                found.epoch = int(turn.epoch)
        if not found.exists:
            raise SessionNotFoundError(f"Session {session.id} not found.")
        if is_stale:
            raise StaleSessionError(
                f"Session {session.id} was written by another turn since it was read:"
                " get it again, and append to what you get"
            )
        if isinstance(session, _Session):
            session._epoch = found.epoch

    # Storage

    async def _read(self, key: str, *, agent: str = "") -> Contents:
        return await on_worker(lambda: self._read_now(key, agent))

    def _read_now(self, key: str, agent: str = "") -> Contents:
        return Contents(active_branch(list(self.store.read(key))), key, agent)

    def _find(self, app_name: str, user_id: str | None) -> list[Contents]:
        keys = (record.session for record in self.store.sessions())
        if self._key is default_key:
            keys = (key for key in keys if key.startswith(f"{agent(app_name)}/"))
        found = [self._read_now(key) for key in keys]
        return [
            one
            for one in found
            if one.who is not None and one.who.app == app_name and user_id in (None, one.who.user)
        ]

    async def _session(self, who: Who, found: Contents) -> Session:
        app = await self._read(app_state(who.app))
        user = await self._read(user_state(who.app, who.user))
        state = dict(found.state)
        state |= {State.APP_PREFIX + key: value for key, value in app.state.items()}
        state |= {State.USER_PREFIX + key: value for key, value in user.state.items()}
        session = _Session(
            app_name=who.app,
            user_id=who.user,
            id=who.session,
            state=state,
            events=found.events,
            last_update_time=found.updated,
        )
        session._epoch = found.epoch
        return session

    async def _share(self, who: Who, deltas: Deltas, identity: str) -> None:
        """Append to the state that sessions share. An event's change of it is appended once."""
        named = {"id": identity} if identity else {}
        for key, delta in (
            (app_state(who.app), deltas.app),
            (user_state(who.app, who.user), deltas.user),
        ):
            if delta:
                async with self.store.turn(key, wait=_SHARING_WAIT) as turn:
                    await turn.append(contents.shared(delta) | named)

    async def _settle(self, run: Run, who: Who, found: Contents) -> None:
        """What a run finds undone: changes of shared state that a process died before it made, and
        the name of a session that others began.
        """
        if found.who is None:
            await run.turn.append(contents.created(who, {}, SystemClock().wall()))
        for event in found.unsettled:
            await self._share(who, deltas_of(event.actions.state_delta), event.id)


def _wanted(events: list[Event], config: GetSessionConfig | None) -> list[Event]:
    if config is None:
        return events
    if config.num_recent_events is not None:
        events = events[-config.num_recent_events :] if config.num_recent_events else []
    after = config.after_timestamp
    return events if after is None else [event for event in events if event.timestamp >= after]


def _let_runs_be_turns() -> None:
    """Wrap `Runner.run_async`, once; see `running`."""
    if not hasattr(Runner.run_async, "turnlock"):
        Runner.run_async = _wrapped(Runner.run_async)  # type: ignore[method-assign]


def _wrapped(run_async: Callable[..., Events]) -> Any:
    @functools.wraps(run_async)
    def run_in_turn(self: Runner, *, user_id: str, session_id: str, **given: Any) -> Events:
        source = run_async(self, user_id=user_id, session_id=session_id, **given)
        service = self.session_service
        if not isinstance(service, TurnlockSessionService):
            return source
        watch_models_of(self)
        return service.run(self, source, user_id=user_id, session_id=session_id)

    run_in_turn.turnlock = True  # type: ignore[attr-defined]
    return run_in_turn
