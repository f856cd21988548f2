"""What a message adds to its session, and what of it the session has already.

The transcript is the history; a request brings only what is new. A client that saw its connection
fail sends the same message again, and then the transcript may have it:

* stored and not answered, as the turn failed: it is not stored twice, and the model is asked again;
* stored and answered, as only the answer was lost on its way: the same answer is given again, and
  no model is asked.

A reply's entry has an id made from that of the message it answers, so that the two belong together
also when others have spoken in between. An ``Idempotency-Key`` names a message for certain, so its
entries get ids made from it. Without one a repetition is recognised by the SDK's retry counter and
by what was said lately.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Container, Hashable, Sequence
from typing import NamedTuple

from ..clock import parse_iso
from ..session import SessionKey, parse_key, session_key
from ..transcript.entries import Entry, user
from ..transcript.history import Message, active_branch, messages, text_of
from .chat import NewInSession
from .errors import bad_request

# A lost answer is asked for again within seconds. Later, or after anything else was said, equal
# words are a new message: "yes" is said more than once in a conversation.
ANSWERED_WINDOW = 120.0
# A message without an answer may be repeated after the client's own time limit.
UNANSWERED_WINDOW = 3600.0
_KEY_LENGTH_MAX = 255


class Repetition(NamedTuple):
    """What a request says about being one: its ``Idempotency-Key``, the SDK's retry counter."""

    key: str | None = None
    retries: int = 0


class Plan(NamedTuple):
    """What a turn does: append ``entries``, then ask the model with ``history``.

    Without ``entries``, ``question`` is the id of the message that is asked again. With ``answer``
    the turn does nothing: that is what this very message was answered.
    """

    entries: tuple[Entry, ...]
    history: list[Message]
    question: str | None = None
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
    lost: Container[str] = (),
) -> Plan:
    """What to do with a request, given everything that its session holds.

    ``now`` is the wall clock, in seconds. ``lost`` are ids of messages whose client is known to
    have left without its answer.
    """
    made = tuple(user(text) for text in new.texts)
    asked: list[Entry] = []
    if repeated.key is not None:
        ids = once_ids(session, repeated.key, new.texts)
        made = tuple({"id": identity, **entry} for identity, entry in zip(ids, made, strict=True))
        asked = _named(entries, frozenset(ids))
    elif repeated.retries > 0:
        asked = _asked_lately(entries, new, now, lost)
    if not asked:
        return Plan(made, messages([*entries, *made]))
    question = str(asked[-1].get("id"))
    answer = _answer(entries, question)
    if answer is not None:
        return Plan((), [], question, _text(answer))
    # Others may have spoken since; the model has to see last what it is asked.
    # An id of another program's need be no text.
    known = {str(entry.get("id")) for entry in asked}
    others = [entry for entry in entries if str(entry.get("id")) not in known]
    return Plan((), messages([*others, *made]), question)


def once_ids(session: SessionKey, key: str, texts: Sequence[str]) -> list[str]:
    """The ids of what an ``Idempotency-Key`` names, the same whenever it is sent again."""
    # The texts are part of it: a key that a client uses for two messages must not swallow one.
    raw = json.dumps([str(session), key, *texts]).encode()
    digest = hashlib.sha256(raw).hexdigest()[:32]
    return [f"once-{digest}-{place}" for place in range(len(texts))]


def reply_id(question: str) -> str:
    """The id of the entry that answers the message with that id."""
    return f"re-{question}"


def _named(entries: Sequence[Entry], ids: Container[str]) -> list[Entry]:
    return [e for e in entries if isinstance(e.get("id"), str) and e["id"] in ids]


def _asked_lately(
    entries: Sequence[Entry], new: NewInSession, now: float, lost: Container[str]
) -> list[Entry]:
    """The entries of the same texts, if they wait for an answer or only lately got it."""
    said = [e for e in active_branch(entries) if _role(e) in ("user", "assistant")]
    start = _last_place(
        [("user", text) for text in new.texts], [(_role(entry), _text(entry)) for entry in said]
    )
    if start is None:
        return []
    asked = said[start : start + len(new.texts)]
    is_known = str(asked[-1].get("id")) in lost or _is_recent(said, asked, new.seen, now)
    return asked if is_known else []


def _last_place(wanted: Sequence[Hashable], said: Sequence[Hashable]) -> int | None:
    """Where ``wanted`` stands in ``said`` for the last time.

    A client chooses how long both are, so the time must not grow with their product. That of
    `str.find` grows with their sum; so each of what is wanted becomes a character.
    """
    numbers = {line: number for number, line in enumerate(dict.fromkeys(wanted), 1)}
    text = "".join(chr(numbers.get(line, 0)) for line in reversed(said))
    found = text.find("".join(chr(numbers[line]) for line in reversed(wanted)))
    return None if found < 0 else len(said) - found - len(wanted)


def _is_recent(said: Sequence[Entry], asked: Sequence[Entry], seen: str | None, now: float) -> bool:
    answer = _answer(said, str(asked[-1].get("id")))
    if answer is None:
        return _age(asked[-1], now) <= UNANSWERED_WINDOW
    is_news = answer is said[-1] and _text(answer) != seen
    return is_news and _age(answer, now) <= ANSWERED_WINDOW


def _answer(entries: Sequence[Entry], question: str) -> Entry | None:
    wanted = reply_id(question)
    found = (e for e in entries if e.get("id") == wanted and _role(e) == "assistant")
    return next(found, None)


def _age(entry: Entry, now: float) -> float:
    written = parse_iso(entry.get("timestamp"))
    return math.inf if written is None else abs(now - written)


def _role(entry: Entry) -> object:
    message = entry.get("message") if entry.get("type") == "message" else None
    return message.get("role") if isinstance(message, dict) else None


def _text(entry: Entry) -> str:
    return text_of(entry["message"].get("content"))
