"""``POST …/release``: a session is taken from one turn and no other, and what became of it.

The turn is named by who asks, from what they were shown: if another holds the session by now, it
is left alone. Where none is named it is the one that holds it as the request comes. Nobody is
signalled: the holder is fenced, and its task cancelled if it is a turn of this gateway. The answer
comes when the marker is written and the session free, and waits a moment longer for the turn's code
to end, so that it can say whether it did.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from starlette.responses import Response

from ...backends import LockRecord, Whose
from ...errors import LockPathError
from ...events import Event, ZombieEnded
from ...store import SessionStatus, Store
from ...turns.aio import call_on_loop
from ..errors import Refusal, bad_request
from .call import Call, answer

TURN_ID_MAX = 200
# Successors may have written by the time that the transcript is looked at.
_TURNS_SEARCHED = 16
# The reason that the marker gets; other ones say that something else ended the turn.
REASONS = ("operator",)


class Wish(NamedTuple):
    """``turn_id`` None is a holder that names no turn."""

    turn_id: str | None
    reason: str


class Next(NamedTuple):
    """Who holds the session by now."""

    turn_id: str | None
    pid: int | None


class Fate(NamedTuple):
    """What became of a session and of the turn that held it.

    ``released`` is false when nobody held it, and all else of the holder null then. ``fenced``: it
    can write no more. ``process`` of the holder. ``marker`` of its turn, null when it owed none.
    ``zombie``: the turn's code still runs; null where that cannot be seen from here.
    """

    session: str
    released: bool
    holder: LockRecord | None
    fenced: bool | None
    process: Literal["alive", "dead", "unknown"] | None
    marker: Literal["written", "owed"] | None
    zombie: bool | None
    next: Next | None
    waiters: int


async def release(call: Call) -> Response:
    session = str(call.session())
    body = await call.body("turn_id", "reason", may_be_missing=True)
    reason, named = _reason(body), _named(body)
    store, reading = call.gateway.store, call.gateway.reading
    before = await reading.run(lambda: store.status(session, turns=1))
    wish = Wish(_shown_turn(before) if named is Whose.ANYONES else named, reason)
    with _Ending(store, wish.turn_id) as ending:
        released = await reading.run(lambda: _revoke(store, session, wish))
        zombie = released and await ending.is_zombie(call.gateway.pace.ending)
        after = await reading.run(lambda: store.status(session, turns=_TURNS_SEARCHED))
    if not released:
        return answer(_shown(_not_held(session, wish, after)))
    if wish.turn_id is not None and _holds(after.lock, wish):
        text = f"turn {wish.turn_id!r} could not be fenced yet; it is tried again"
        raise Refusal("not_fenced", text, facts=_facts(session, after))
    return answer(_shown(_fate(session, wish, before, after, zombie)))


def _named(body: Mapping[str, Any]) -> str | Whose | None:
    turn_id: str | Whose | None = body.get("turn_id", Whose.ANYONES)
    is_text = isinstance(turn_id, str) and 0 < len(turn_id) <= TURN_ID_MAX
    if is_text or turn_id in (None, Whose.ANYONES):
        return turn_id
    text = f"'turn_id' has to be text of 1 to {TURN_ID_MAX} characters, or null"
    raise bad_request(text, param="turn_id")


def _reason(body: Mapping[str, Any]) -> str:
    reason = body.get("reason", REASONS[0])
    if reason in REASONS:
        return str(reason)
    raise bad_request(f"'reason' has to be {REASONS[0]!r}", param="reason")


def _shown_turn(now: SessionStatus) -> str | None:
    return None if now.lock is None else now.lock.turn_id


def _revoke(store: Store, session: str, wish: Wish) -> bool:
    try:
        return store.revoke(session, wish.reason, turn_id=wish.turn_id)
    except LockPathError as error:
        raise Refusal("cannot_be_fenced", str(error), facts={"session": session}) from None


class _Ending:
    """Hears of the end of a revoked turn's code, from before the revocation on."""

    def __init__(self, store: Store, turn_id: str | None) -> None:
        self._store = store
        self._turn_id = turn_id
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()

    def __enter__(self) -> _Ending:
        self._unsubscribe = self._store.subscribe(self._hear)
        return self

    def __exit__(self, *exc: object) -> None:
        self._unsubscribe()

    async def is_zombie(self, patience: float) -> bool:
        """Whether the code still runs after so many seconds."""
        if not any(zombie.turn_id == self._turn_id for zombie in self._store.zombies()):
            return False
        try:
            async with asyncio.timeout(patience):
                await self._ended.wait()
        except TimeoutError:
            return True
        return False

    def _hear(self, event: Event) -> None:
        if isinstance(event, ZombieEnded) and event.turn_id == self._turn_id:
            call_on_loop(self._loop, self._ended.set)


def _holds(lock: LockRecord | None, wish: Wish) -> bool:
    return lock is not None and lock.turn_id == wish.turn_id


def _not_held(session: str, wish: Wish, now: SessionStatus) -> Fate:
    """Raises `Refusal` unless the session is free."""
    if now.lock is None:
        return Fate(session, False, None, None, None, None, None, None, now.waiters)
    holder, wished = _holder(now.lock.turn_id), _holder(wish.turn_id)
    text = f"session {session!r} is held by {holder} and not by {wished} any more"
    raise Refusal("turn_changed", text, facts=_facts(session, now))


def _holder(turn_id: str | None) -> str:
    return f"turn {turn_id!r}" if turn_id else "a holder that names no turn"


def _facts(session: str, now: SessionStatus) -> dict[str, Any]:
    lock = now.lock
    assert lock is not None
    age, limit = lock.age_seconds, lock.max_hold_seconds
    return {"session": session, "turn": lock.turn_id, "age": age, "limit": limit}


def _fate(
    session: str, wish: Wish, before: SessionStatus, after: SessionStatus, zombie: bool
) -> Fate:
    holder = before.lock if _holds(before.lock, wish) else None
    process = _process(holder)
    return Fate(
        session,
        True,
        holder,
        # A holder without a turn is a bare lock, or another program's: it may write on.
        wish.turn_id is not None or process == "dead",
        process,
        _marker(wish, after),
        zombie,
        None if after.lock is None else Next(after.lock.turn_id, after.lock.pid),
        after.waiters,
    )


def _process(holder: LockRecord | None) -> Literal["alive", "dead", "unknown"]:
    if holder is None or holder.pid is None or holder.pid_status == "unknown":
        return "unknown"
    return "alive" if holder.pid_status == "alive" else "dead"


def _marker(wish: Wish, after: SessionStatus) -> Literal["written", "owed"] | None:
    if wish.turn_id is None:
        return None
    seen = next((turn for turn in after.end.turns if turn.turn_id == wish.turn_id), None)
    if seen is None or not seen.terminal:
        return "owed"
    return "written" if seen.reason is not None else None


def _shown(fate: Fate) -> dict[str, Any]:
    holder, following = fate.holder, fate.next
    return fate._asdict() | {
        "holder": None if holder is None else holder._asdict(),
        "next": None if following is None else following._asdict(),
    }
