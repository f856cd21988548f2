"""What a message adds to its session, and what of it the session has already.

The transcript is the history; a request brings only what is new. A client that saw its connection
fail sends the same message again, and then the transcript may have it:

* stored and not answered, as the turn failed: it is not stored twice, and the model is asked again;
* stored and answered, as only the answer was lost on its way: the same answer is given again, and
  no model is asked.

An ``Idempotency-Key`` names a message for certain, so its entries get ids made from it. Without one
a repetition is recognised by the SDK's retry counter together with the end of the transcript.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import NamedTuple

from ..clock import parse_iso
from ..session import SessionKey, parse_key, session_key
from ..transcript.entries import Entry, user
from ..transcript.history import Message, active_branch, messages, text_of
from .chat import NewInSession
from .errors import bad_request

# A lost answer is asked for again within seconds. Later, or after another text, equal words are a
# new message: "yes" is said more than once in a conversation.
REPEAT_WINDOW = 120.0
_KEY_LENGTH_MAX = 255


class Repetition(NamedTuple):
    """What a request says about being one: its ``Idempotency-Key``, the SDK's retry counter."""

    key: str | None = None
    retries: int = 0


class Plan(NamedTuple):
    """What a turn does: append ``entries``, then ask the model with ``history``.

    With ``answer`` it does neither: that is what this very message was answered.
    """

    entries: tuple[Entry, ...]
    history: list[Message]
    answer: str | None = None


def session_of(value: str, agent: str) -> SessionKey:
    """The session that a client names: a session key, or any text as a name of the agent's.

    A key may name the place of another agent; the transcript is there, and ``agent`` answers.
    """
    try:
        return parse_key(value)
    except ValueError:
        return parse_key(session_key(agent, value))


def repetition(key: str | None, retries: str | None) -> Repetition:
    """From the request's headers. Raises `Refusal` for a key that is empty or too long."""
    if key is not None and not 0 < len(key) <= _KEY_LENGTH_MAX:
        raise bad_request(f"an Idempotency-Key has 1 to {_KEY_LENGTH_MAX} characters")
    counted = retries is not None and retries.isascii() and retries.isdigit() and len(retries) < 6
    return Repetition(key, int(retries) if retries is not None and counted else 0)


def plan(
    entries: Sequence[Entry],
    new: NewInSession,
    *,
    session: SessionKey,
    repeated: Repetition,
    now: float,
) -> Plan:
    """What to do with a request, given everything that its session holds.

    ``now`` is the wall clock, in seconds.
    """
    if repeated.key is not None:
        return _plan_by_key(entries, new, _ids(session, repeated.key, new.texts))
    made = tuple(user(text) for text in new.texts)
    if repeated.retries > 0:
        known = _plan_by_end(entries, new, now)
        if known is not None:
            return known
    return Plan(made, messages([*entries, *made]))


def _plan_by_key(entries: Sequence[Entry], new: NewInSession, ids: Sequence[str]) -> Plan:
    made = tuple(
        {"id": identity, **user(text)} for identity, text in zip(ids, new.texts, strict=True)
    )
    said = _messages_of(entries)
    places = [place for place, entry in enumerate(said) if entry.get("id") in ids]
    if not places:
        return Plan(made, messages([*entries, *made]))
    after = said[places[-1] + 1 :]
    if after and _role(after[0]) == "assistant":
        return Plan((), [], _text(after[0]))
    # Others may have spoken since; the model has to see last what it is asked.
    others = [entry for entry in entries if entry.get("id") not in ids]
    return Plan((), messages([*others, *made]))


def _plan_by_end(entries: Sequence[Entry], new: NewInSession, now: float) -> Plan | None:
    """The plan for a message that the end of the transcript has already; None if it has not."""
    said = _messages_of(entries)
    if _ends_with(said, new.texts):
        return Plan((), messages(entries))
    if said and _ends_with(said[:-1], new.texts) and _is_lost_answer(said[-1], new.seen, now):
        return Plan((), [], _text(said[-1]))
    return None


def _ends_with(said: Sequence[Entry], texts: Sequence[str]) -> bool:
    end = said[-len(texts) :]
    return [(_role(entry), _text(entry)) for entry in end] == [("user", text) for text in texts]


def _is_lost_answer(entry: Entry, seen: str | None, now: float) -> bool:
    written = parse_iso(entry.get("timestamp"))
    recent = written is not None and abs(now - written) <= REPEAT_WINDOW
    return _role(entry) == "assistant" and recent and _text(entry) != seen


def _messages_of(entries: Sequence[Entry]) -> list[Entry]:
    """The user's and the assistant's messages on the active branch."""
    return [e for e in active_branch(entries) if _role(e) in ("user", "assistant")]


def _role(entry: Entry) -> object:
    message = entry.get("message") if entry.get("type") == "message" else None
    return message.get("role") if isinstance(message, dict) else None


def _text(entry: Entry) -> str:
    return text_of(entry["message"].get("content"))


def _ids(session: SessionKey, key: str, texts: Sequence[str]) -> list[str]:
    # The texts are part of it: a key that a client uses for two messages must not swallow one.
    raw = json.dumps([str(session), key, *texts]).encode()
    digest = hashlib.sha256(raw).hexdigest()[:32]
    return [f"once-{digest}-{place}" for place in range(len(texts))]
