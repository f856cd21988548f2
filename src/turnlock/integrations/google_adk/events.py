"""ADK's events as entries of a transcript, and back.

An event is kept twice in its entry: as the message that it is, for whoever reads the transcript
(`Turn.messages`, the gateway, another framework), and whole, under ``googleAdk``, for ADK. One with
several results of tools becomes several entries, of which the first has it whole; one without
content, such as a change of state, is a custom entry.

What others wrote into the session is read as events: messages of users and models, calls and
results. So are the results that stand for what a failed turn left open.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from google.adk.events.event import Event
from google.genai import types
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, to_json

from ...errors import TranscriptError
from ...transcript.entries import Entry, epoch_of, message_of
from ...transcript.history import text_of

WHOLE = "googleAdk"
BARE = "google-adk:event"

_ID = re.compile(r"[A-Za-z0-9._:@+=-]{1,100}", re.ASCII)
_TEMPORARY = "temp:"
# A value in there may be a model whose defaults are no defaults to who reads it.
_STATE = {"actions": {"state_delta"}}


def entries_of_event(event: Event, label: str) -> list[Entry]:
    """The entries of an event. Raises `TranscriptError` for one that is not JSON."""
    whole = {WHOLE: {"event": _dumped(event, label)}}
    messages = _messages(event)
    if not messages:
        entries: list[Entry] = [{"type": "custom", "customType": BARE, **whole}]
    else:
        entries = [{"type": "message", "message": message} for message in messages]
        entries[0] |= whole
        for entry in entries[1:]:
            entry[WHOLE] = {"partOf": event.id}
    if _ID.fullmatch(event.id):
        # An append that is repeated is then still one event.
        entries[0]["id"] = event.id
        for number, entry in enumerate(entries[1:], 2):
            entry["id"] = f"{event.id}.{number}"
    return entries


def _dumped(event: Event, label: str) -> Entry:
    try:
        # As JSON text, and not as Python's values: only so bytes come back as what they were.
        text = event.model_dump_json(by_alias=True, exclude_defaults=True, exclude=_STATE)
    except PydanticSerializationError as error:
        raise TranscriptError(label, f"the event {event.id} is not JSON: {error}") from error
    dumped: Entry = json.loads(text)
    if event.actions.state_delta:
        changes = stored_state(event.actions.state_delta, label)
        dumped.setdefault("actions", {})["stateDelta"] = changes
    return dumped | {"id": event.id, "timestamp": event.timestamp}


def stored_state(changes: Mapping[str, Any], label: str) -> Entry:
    """Changes of state as they are stored: without what is temporary, and as JSON.

    What is no JSON becomes what comes nearest, and be it its text. Raises `TranscriptError` for a
    text that is not Unicode.
    """
    lasting = {key: value for key, value in changes.items() if not key.startswith(_TEMPORARY)}
    try:
        text = to_json(lasting, serialize_unknown=True, bytes_mode="base64", inf_nan_mode="null")
    except PydanticSerializationError as error:
        raise TranscriptError(label, f"the state is not JSON: {error}") from error
    stored: Entry = json.loads(text)
    return stored


def _messages(event: Event) -> list[Entry]:
    parts = (event.content.parts if event.content else None) or []
    results = [_result(part.function_response) for part in parts if part.function_response]
    said = [shown for part in parts if (shown := _part(part))]
    if not said:
        return results
    if event.author == "user":
        return [*results, {"role": "user", "content": said}]
    return [_reply(event, said), *results]


def _part(part: types.Part) -> Entry | None:
    """A part of a message in the transcript's form; None for one that has no place there."""
    if part.text:
        kind = "thinking" if part.thought else "text"
        return {"type": kind, kind: part.text}
    if part.function_call:
        call = part.function_call
        arguments = call.args or {}
        return {"type": "toolCall", "id": call.id, "name": call.name, "arguments": arguments}
    data = part.inline_data or part.file_data
    return {"type": "attachment", "mimeType": data.mime_type} if data else None


def _reply(event: Event, content: list[Entry]) -> Entry:
    stop = "toolUse" if event.get_function_calls() else "stop"
    if event.error_code or event.interrupted:
        stop = "error" if event.error_code else "aborted"
    model = getattr(event, "model_version", None) or "unknown"
    made = {"role": "assistant", "content": content, "api": "google-adk", "provider": "google-adk"}
    return made | {"model": model, "stopReason": stop}


def _result(result: types.FunctionResponse) -> Entry:
    response = dict(result.response or {})
    alone = response.get("result") if len(response) == 1 else None
    try:
        text = alone if isinstance(alone, str) else json.dumps(response, ensure_ascii=False)
    except TypeError:
        text = str(response)
    return {
        "role": "toolResult",
        "toolCallId": result.id,
        "toolName": result.name,
        "content": [{"type": "text", "text": text}],
        "isError": "error" in response,
    }


class Reader:
    """Events out of entries, in order. ``agent`` is who spoke where the transcript does not say."""

    def __init__(self, label: str, agent: str) -> None:
        self._label = label
        self._agent = agent
        self._called_by: dict[str | None, Event] = {}

    def events(self, entries: Iterable[Entry]) -> list[Event]:
        return [event for entry in entries if (event := self.event(entry))]

    def event(self, entry: Entry) -> Event | None:
        """The event that an entry is; None for what is none, or a further part of one."""
        ours = entry.get(WHOLE)
        if not isinstance(ours, dict):
            event = self._of_others(entry)
        else:
            event = self._whole(entry, ours["event"]) if "event" in ours else None
        if event is not None:
            self._called_by |= {call.id: event for call in event.get_function_calls()}
        return event

    def _whole(self, entry: Entry, dumped: object) -> Event:
        try:
            return Event.model_validate_json(json.dumps(dumped))
        except ValidationError as error:
            first = error.errors()[0]
            what = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            why = f"this google-adk does not know the event in entry {entry.get('id')}: {what}"
            raise TranscriptError(self._label, why, "use the version that wrote it") from error

    def _of_others(self, entry: Entry) -> Event | None:
        message = message_of(entry)
        role = message.get("role")
        if role == "toolResult":
            return self._of_result(entry, message)
        parts = [types.Part(text=text)] if (text := text_of(message.get("content"))) else []
        if role == "assistant":
            parts += [_call(part) for part in message["content"] if _is_call(part)]
        if not parts or role not in ("user", "assistant"):
            return None
        is_user = role == "user"
        content = types.Content(role="user" if is_user else "model", parts=parts)
        return _event(entry, "user" if is_user else self._agent, content)

    def _of_result(self, entry: Entry, message: Entry) -> Event:
        identity = message.get("toolCallId")
        caller = self._called_by.get(identity)
        text = text_of(message.get("content"))
        response = types.FunctionResponse(
            id=identity,
            name=message.get("toolName"),
            response={"error" if message.get("isError") else "result": text},
        )
        content = types.Content(role="user", parts=[types.Part(function_response=response)])
        event = _event(entry, caller.author if caller else self._agent, content)
        if caller is not None:
            event.invocation_id, event.branch = caller.invocation_id, caller.branch
            event.isolation_scope = caller.isolation_scope
        return event


def _is_call(part: object) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "toolCall"


def _call(part: Mapping[str, Any]) -> types.Part:
    arguments = part.get("arguments")
    call = types.FunctionCall(
        id=part.get("id"),
        name=part.get("name"),
        args=arguments if isinstance(arguments, dict) else {},
    )
    return types.Part(function_call=call)


def _event(entry: Entry, author: str, content: types.Content) -> Event:
    timestamp = message_of(entry).get("timestamp")
    return Event(
        id=str(entry.get("id") or ""),
        invocation_id=f"turnlock-{epoch_of(entry) or 0}",
        author=author,
        content=content,
        timestamp=timestamp / 1000 if isinstance(timestamp, (int, float)) else 0.0,
    )
