"""What bodies and answers look like, as JSON Schema by name.

The answers of Turnlock's own routes are made of records, and their schemas are made of the same
records, so that the two cannot differ.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ..backends import LockRecord, SessionRecord
from ..limits import LIMIT_NAMES
from ..transcript.entries import RESERVED
from ..turns.runtime import Statistics
from .chat import ROLES
from .errors import CODES
from .exchange import ExchangeCounts
from .native.entries import ENTRIES_MAX, Appended
from .native.locks import Live, ShownZombie
from .native.release import REASONS, TURN_ID_MAX, Fate
from .native.sessions import LastTurn, Queued
from .native.statistics import ListenerCounts, Oldest
from .native.transcript import Damaged

Schema = dict[str, Any]

_PLAIN: Mapping[Any, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    types.NoneType: {"type": "null"},
}


def of(annotation: Any) -> Schema:
    """The schema of a record's field, or of a whole record."""
    if annotation in _PLAIN:
        return dict(_PLAIN[annotation])
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return {"anyOf": [of(one) for one in inner]}
    if origin is Literal:
        return {"enum": list(inner)}
    if origin is tuple:
        return array(of(inner[0]))
    if origin is dict:
        return {"type": "object", "additionalProperties": of(inner[1])}
    return record(annotation)


def record(*classes: Any, **more: Schema) -> Schema:
    """An object with all fields of these records, and these members beside them."""
    fields = {name: of(hint) for one in classes for name, hint in get_type_hints(one).items()}
    return exactly(**fields | more)


def exactly(**members: Schema) -> Schema:
    """An object with these members and no others."""
    return {
        "type": "object",
        "properties": members,
        "required": list(members),
        "additionalProperties": False,
    }


def array(items: Schema, **bounds: int) -> Schema:
    return {"type": "array", "items": items, **bounds}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


_TEXT = _PLAIN[str]
_COUNT: Schema = {"type": "integer", "minimum": 0}
_TURN_OR_NULL = _or_null(record(LastTurn))
_LOCK = record(LockRecord, Live)
_STORED: Schema = {
    "type": "object",
    "description": "An entry as it is stored; `kind`, `id` and `epoch` are always there.",
    "required": ["kind", "id", "epoch"],
    "properties": {
        "kind": _TEXT,
        "id": of(str | None),
        "epoch": of(int | None),
    },
}


def _entry(kind: Schema, **members: Schema) -> Schema:
    """An entry that may be appended, of a type; an ``id`` of its own makes it one entry."""
    return {
        "type": "object",
        "required": ["type", *(name for name in members if name == "message")],
        "properties": {
            "type": kind,
            "id": _or_null({"type": "string", "pattern": "^[A-Za-z0-9._:@+=-]{1,128}$"}),
            "epoch": False,
            **members,
        },
    }


_APPENDED: Schema = {
    "anyOf": [
        _entry(
            {"const": "message"},
            message={"type": "object", "required": ["role"], "properties": {"role": _TEXT}},
        ),
        _entry({"const": "custom"}, customType={"not": {"enum": sorted(RESERVED)}}),
        _entry(_TEXT | {"minLength": 1, "not": {"enum": ["session", "message", "custom"]}}),
    ]
}
_CONTENT: Schema = {
    "anyOf": [
        _TEXT,
        {"type": "null"},
        array(
            {
                "type": "object",
                "required": ["type", "text"],
                "properties": {"type": {"const": "text"}, "text": _TEXT},
            }
        ),
    ]
}
_CHAT_MESSAGE: Schema = {
    "type": "object",
    "required": ["role"],
    "properties": {"role": {"enum": list(ROLES)}, "content": _CONTENT},
}
_USAGE = exactly(prompt_tokens=_COUNT, completion_tokens=_COUNT, total_tokens=_COUNT)
_MODEL = exactly(
    id=_TEXT, object={"const": "model"}, created=_COUNT, owned_by={"const": "turnlock"}
)

SCHEMAS: Mapping[str, Schema] = {
    "Error": exactly(
        error={
            "type": "object",
            "description": "The facts of the error stand beside these members.",
            "required": ["message", "type", "code", "param"],
            "properties": {
                "message": _TEXT,
                "type": _TEXT,
                "code": {"enum": list(CODES)},
                "param": of(str | None),
            },
        }
    ),
    "Health": exactly(status={"enum": ["ok", "starting", "draining"]}, ready=_PLAIN[bool]),
    "Model": _MODEL,
    "ModelList": exactly(object={"const": "list"}, data=array(_MODEL)),
    "ChatRequest": {
        "type": "object",
        "required": ["model", "messages"],
        "description": (
            "OpenAI's; options that only tune a model are ignored. With a session, the messages"
            " after the last one of the assistant are new, and have to be the user's."
        ),
        "properties": {
            "model": {"type": "string", "minLength": 1},
            "messages": array(_CHAT_MESSAGE, minItems=1),
            "stream": of(bool | None),
            "stream_options": _or_null(
                {"type": "object", "properties": {"include_usage": of(bool | None)}}
            ),
            "user": {"type": ["string", "null"], "description": "Names the session."},
            "n": {"enum": [1, None]},
        },
    },
    "ChatCompletion": {
        "type": "object",
        "required": ["id", "object", "created", "model", "choices"],
        "properties": {
            "id": _TEXT,
            "object": {"const": "chat.completion"},
            "created": _COUNT,
            "model": _TEXT,
            "choices": array(
                exactly(
                    index={"const": 0},
                    message=exactly(
                        role={"const": "assistant"}, content=_TEXT, refusal={"type": "null"}
                    ),
                    logprobs={"type": "null"},
                    finish_reason={"enum": ["stop", "length", "content_filter"]},
                ),
                minItems=1,
                maxItems=1,
            ),
            "usage": _USAGE,
        },
        "additionalProperties": False,
    },
    "Sessions": exactly(sessions=array(record(SessionRecord)), next=of(str | None)),
    "Session": exactly(
        session=_TEXT,
        path=of(str | None),
        size=_COUNT,
        modified=of(str | None),
        epoch=_COUNT,
        torn_bytes=_COUNT,
        open_turn=_TURN_OR_NULL,
        last_ended_turn=_TURN_OR_NULL,
        holder=_or_null(_LOCK),
        waiters=_COUNT,
        queued=array(record(Queued)),
        limits=exactly(**dict.fromkeys(LIMIT_NAMES, _PLAIN[float])),
    ),
    "Transcript": exactly(
        entries=array(_STORED),
        damaged=array(record(Damaged)),
        next=_TEXT,
        more=_PLAIN[bool],
    ),
    "ReleaseRequest": {
        "type": "object",
        "properties": {
            "turn_id": _or_null({"type": "string", "minLength": 1, "maxLength": TURN_ID_MAX}),
            "reason": {"enum": list(REASONS)},
        },
        "additionalProperties": False,
    },
    "Release": record(Fate),
    "AppendRequest": exactly(entries=array(_APPENDED, minItems=1, maxItems=ENTRIES_MAX)),
    "Appended": record(Appended),
    "Locks": exactly(locks=array(_LOCK), zombies=array(record(ShownZombie))),
    "Statistics": exactly(
        version=_TEXT,
        pid=_COUNT,
        started=_TEXT,
        uptime_seconds=_PLAIN[float],
        draining=_PLAIN[bool],
        store=record(Statistics),
        exchanges=record(ExchangeCounts),
        events=record(ListenerCounts),
        oldest_seconds=record(Oldest),
    ),
    "Document": {"type": "object", "required": ["openapi", "info", "paths", "components"]},
}
