"""``GET /sessions`` and ``GET /sessions/{agent}/{name}``."""

from __future__ import annotations

from itertools import islice
from typing import Any, NamedTuple

from starlette.responses import Response

from ...errors import InvalidSessionKey
from ...limits import LIMIT_NAMES
from ...session import parse_key
from ...store import SessionStatus
from ...transcript.tail import TurnSeen
from ..errors import Refusal
from ..operations import PAGE
from .call import Call, answer
from .locks import shown_locks


class LastTurn(NamedTuple):
    """A turn as the transcript shows it. ``reason`` of its error marker; null if it ended well."""

    turn_id: str | None
    epoch: int
    reason: str | None


class Queued(NamedTuple):
    """A turn of the gateway that waits for the session."""

    turn_id: str
    client: str | None


async def list_sessions(call: Call) -> Response:
    gateway = call.gateway
    after, limit = call.query.get("after"), call.query.get("limit", PAGE)
    if after is not None:
        _check_key(after)
    found = await gateway.reading.run(
        lambda: list(islice(gateway.store.sessions(after=after), limit + 1))
    )
    listed = found[:limit]
    more = listed[-1].session if len(found) > limit else None
    return answer({"sessions": [one._asdict() for one in listed], "next": more})


async def get_session(call: Call) -> Response:
    gateway, session = call.gateway, str(call.session())
    clients = gateway.exchanges.clients()
    waiting = gateway.exchanges.waiting_for(session)
    status, holder = await gateway.reading.run(lambda: _look(call, session, clients))
    if status.record is None and holder is None and not waiting:
        raise no_session(session)
    return answer(_shown(session, status, holder, waiting) | {"limits": _limits(call)})


def no_session(session: str) -> Refusal:
    text = f"there is no session {session!r}"
    return Refusal("session_not_found", text, facts={"session": session})


def _check_key(key: str) -> None:
    try:
        parse_key(key)
    except InvalidSessionKey as error:
        raise Refusal("invalid_session_key", str(error), param="after") from None


def _look(
    call: Call, session: str, clients: dict[str, str | None]
) -> tuple[SessionStatus, dict[str, Any] | None]:
    store = call.gateway.store
    status = store.status(session)
    held = [] if status.lock is None else [status.lock]
    return status, next(iter(shown_locks(store, held, clients)), None)


def _shown(
    session: str,
    status: SessionStatus,
    holder: dict[str, Any] | None,
    waiting: dict[str, str | None],
) -> dict[str, Any]:
    record, end = status.record, status.end
    return {
        "session": session,
        "path": None if record is None else record.path,
        "size": 0 if record is None else record.size,
        "modified": None if record is None else record.modified,
        "epoch": end.epoch,
        "torn_bytes": 0 if end.fragment is None else end.size - end.fragment,
        "open_turn": None if end.open_turn is None else _turn(end.open_turn),
        "last_ended_turn": next((_turn(turn) for turn in end.turns if turn.terminal), None),
        "holder": holder,
        "waiters": status.waiters,
        "queued": [Queued(*one)._asdict() for one in waiting.items()],
    }


def _turn(turn: TurnSeen) -> dict[str, Any]:
    return LastTurn(turn.turn_id, turn.epoch, turn.reason)._asdict()


def _limits(call: Call) -> dict[str, float]:
    limits = call.gateway.config.limits
    return {name: getattr(limits, name) for name in LIMIT_NAMES}
