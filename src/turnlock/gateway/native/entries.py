"""``POST …/entries``: entries appended as one, in a turn of its own.

Sending the same again is safe: an entry's own ``id`` makes it one entry, and so does an
``Idempotency-Key`` for entries without. Everything is checked before the session is taken, so that
a mistake leaves no trace in it; what only Turnlock may write (openings, terminal entries, markers,
headers, epochs) is refused.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from starlette.types import Receive, Scope, Send

from ...errors import TranscriptError
from ...limits import Limits
from ...session import SessionKey
from ...store import Store
from ...transcript.entries import Entry, epoch_of
from ...transcript.jsonl import encode
from ...turns.aio import on_worker
from ...turns.writer import checked_entry
from ..conversation import once_ids, repetition
from ..errors import Refusal, bad_request
from ..exchange import Exchange, Phase
from ..service import Where
from ..sse import client_watched, headers_of
from .call import Call, answer

ENTRIES_MAX = 1000


class AppendedEntry(NamedTuple):
    """``repeated``: the session had it already. ``epoch`` of the turn that wrote it; null for an
    entry of another program."""

    id: str
    epoch: int | None
    repeated: bool


class Appended(NamedTuple):
    """What became of each entry, in their order."""

    session: str
    turn_id: str
    entries: tuple[AppendedEntry, ...]


async def append_entries(call: Call) -> Appending:
    gateway = call.gateway
    gateway.check_open()
    session = call.session()
    repeated = repetition(call.header("idempotency-key"), None)
    body = await gateway.unless_stopping(call.body("entries"))
    entries = _entries(body, session, repeated.key)
    limits = gateway.config.limits
    wait = call.query.get("wait", limits.wait)
    exchange = gateway.begin_turn(
        Where(session, repeated, call.client),
        lambda exchange: _append(gateway.store, entries, wait, limits, exchange),
    )
    return Appending(exchange)


class Appending:
    """An ASGI application for one exchange. A client that leaves cancels it."""

    def __init__(self, exchange: Exchange[Appended]) -> None:
        self._exchange = exchange

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with client_watched(receive, self._exchange):
            outcome = await self._exchange.outcome
            if isinstance(outcome, Refusal):
                response = outcome.response()
            else:
                response = answer(_shown(outcome))
            response.headers.update(headers_of(self._exchange))
            await response(scope, receive, send)


async def _append(
    store: Store,
    entries: Sequence[Entry],
    wait: float,
    limits: Limits,
    exchange: Exchange[Appended],
) -> Appended:
    session = exchange.session
    assert session is not None
    own = {entry["id"] for entry in entries if "id" in entry}
    hold = min(limits.turn, limits.max_hold)
    async with store.turn(session, wait=wait, max_hold=hold, turn_id=exchange.identity) as turn:
        exchange.phase = Phase.RUNNING
        # Nobody else writes while the turn holds.
        there = await on_worker(lambda: _epochs(store, session, own)) if own else {}
        ids = await turn.append(*entries)
        exchange.phase = Phase.FINISHING
        epoch = int(turn.epoch)
    seen = set(there)
    made = []
    for one in ids:
        made.append(AppendedEntry(one, there.get(one, epoch), one in seen))
        seen.add(one)
    return Appended(session, exchange.identity, tuple(made))


def _epochs(store: Store, session: str, ids: set[str]) -> dict[str, int | None]:
    """The epochs of those of the entries that the session has."""
    return {
        identity: epoch_of(entry)
        for entry in store.read(session)
        if isinstance(identity := entry.get("id"), str) and identity in ids
    }


def _entries(body: dict[str, Any], session: SessionKey, key: str | None) -> list[Entry]:
    """The request's entries, with ids if it has a key. Raises `Refusal`."""
    entries = body.get("entries")
    if not isinstance(entries, list) or not 0 < len(entries) <= ENTRIES_MAX:
        text = f"'entries' has to be a list of 1 to {ENTRIES_MAX} entries"
        raise bad_request(text, param="entries")
    checked = [_checked(entry, place) for place, entry in enumerate(entries)]
    if key is None:
        return checked
    ids = once_ids(session, key, [json.dumps(entry, sort_keys=True) for entry in checked])
    return [{"id": identity, **entry} for identity, entry in zip(ids, checked, strict=True)]


def _checked(entry: object, place: int) -> Entry:
    name = f"entries[{place}]"
    if not isinstance(entry, dict):
        raise bad_request(f"{name} has to be an object", param=name)
    if "epoch" in entry:
        raise bad_request(f"{name} has an 'epoch', which is not yours to give", param=name)
    if entry.get("type") == "message" and not _is_message(entry.get("message")):
        raise bad_request(f"{name} needs a 'message' with a 'role' that is text", param=name)
    try:
        made = checked_entry(entry, name)
        encode(made)
    except TranscriptError as error:
        raise bad_request(f"{name}: {error.why}", param=name) from None
    except ValueError as error:
        raise bad_request(f"{name} cannot be stored: {error}", param=name) from None
    return made


def _is_message(message: object) -> bool:
    return isinstance(message, dict) and isinstance(message.get("role"), str)


def _shown(appended: Appended) -> dict[str, Any]:
    return appended._asdict() | {"entries": [one._asdict() for one in appended.entries]}
