"""Messages: LangChain's as entries of a transcript, entries as LangChain's messages.

A message is an entry once. Its entry has the common form, which every reader of transcripts knows,
and beside it the native form, from which LangGraph gets back what it gave. The entry's id follows
from the message's, so that a message which comes by twice, in the input and in a checkpoint, is one
entry; and a message that is made of somebody else's entry has an id that leads back to it. One that
is said again after it was rolled back or deleted has a new entry, which names the id it stands for.

A message without an id, or of a channel whose format takes ids away, is known by what it says: the
second that says "yes" in a state is the second in the transcript.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from enum import Enum
from itertools import takewhile
from typing import Any, NamedTuple

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
    convert_to_messages,
)
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from pydantic import BaseModel

from ...transcript.entries import (
    CUT_OFF,
    CUT_SHORT,
    Entry,
    ToolCall,
    answered_call,
    message_of,
    tool_calls,
)
from ...transcript.history import text_of

_FROM_ENTRY = "turnlock:"
_OURS = "lg-"
_PLAIN = re.compile(r"[A-Za-z0-9._:@+=-]{1,120}", re.ASCII)
_ROLES: dict[type[BaseMessage], str] = {
    HumanMessage: "user",
    SystemMessage: "system",
    AIMessage: "assistant",
    ToolMessage: "toolResult",
}


class Adding(Enum):
    """How a channel adds what it is given to the messages that it has."""

    MERGES = "one that has the id of another replaces it"
    FORMATS = "likewise, but then it makes them anew, without ids"
    APPENDS = "it puts lists together, whatever is in them"


class Input(NamedTuple):
    """A graph's input, and the messages in it that are to be durable before the graph runs."""

    value: Any
    messages: list[BaseMessage]


def entry_id(message: BaseMessage) -> str | None:
    """The id of a message's entry; None for a message without an id."""
    identity = message.id
    if not identity:
        return None
    if identity.startswith(_FROM_ENTRY):
        return identity.removeprefix(_FROM_ENTRY)
    if _PLAIN.fullmatch(identity):
        return _OURS + identity
    return _OURS + hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()


def form_of(entry: Entry) -> str:
    """What tells entries apart whose messages have lost their ids: a digest of what they say."""
    said = message_of(entry)
    text = "".join(text_of(said.get("content")).split())
    form = [said.get("role"), text, tool_calls(entry), answered_call(entry)]
    return hashlib.sha256(json.dumps(form).encode()).hexdigest()


def next_id(identity: str) -> str:
    """The id of the entry in which a message is said again, after the one with that id."""
    return _OURS + hashlib.sha256(f"again {identity}".encode()).hexdigest()[:32]


def new_id() -> str:
    """The id of an entry for a message that has none."""
    return _OURS + uuid.uuid4().hex


def to_entry(message: BaseMessage, identity: str) -> Entry | None:
    """A message's entry, in the common form; None for what is no message of a conversation."""
    role = _role(message)
    if role is None:
        return None
    said: Entry = {"role": role, "content": _content(message)}
    if isinstance(message, ToolMessage):
        said |= {
            "toolCallId": message.tool_call_id,
            "toolName": message.name or "",
            "isError": message.status == "error",
        }
    elif isinstance(message, AIMessage):
        said |= _of_model(message)
    return {"type": "message", "id": identity, "message": said}


def of_entry(entry: Entry) -> BaseMessage | None:
    """The message in an entry that no graph wrote; None for one that is nothing to a model."""
    said = message_of(entry)
    text, identity = text_of(said.get("content")), _FROM_ENTRY + str(entry.get("id"))
    match said.get("role"):
        case "user" if text:
            return HumanMessage(text, id=identity)
        case "system" if text:
            return SystemMessage(text, id=identity)
        case "assistant":
            calls = _calls(said)
            return AIMessage(text, id=identity, tool_calls=calls) if text or calls else None
        case "toolResult" if isinstance(said.get("toolCallId"), str):
            name = said.get("toolName")
            return ToolMessage(
                text,
                id=identity,
                tool_call_id=said["toolCallId"],
                name=name if isinstance(name, str) else None,
                status="error" if said.get("isError") is True else "success",
            )
    return None


def messages_in(value: object) -> list[BaseMessage]:
    """The messages that a channel's value, or a write to it, consists of."""
    if isinstance(value, BaseMessage):
        return [value]
    found = value if isinstance(value, list) else []
    return [one for one in found if isinstance(one, BaseMessage)]


def is_history(value: object) -> bool:
    """Whether a channel's value is a list of nothing but messages."""
    return isinstance(value, list) and bool(value) and len(messages_in(value)) == len(value)


def said_in(given: Any, key: str) -> Any:
    """What an input gives a channel: a dict, or an instance of the state. None for nothing."""
    if isinstance(given, Mapping):
        return given.get(key)
    if isinstance(given, BaseModel):
        return getattr(given, key, None) if key in given.model_fields_set else None
    return getattr(given, key, None) if dataclasses.is_dataclass(given) else None


def prepared(
    given: Any,
    key: str,
    state: Sequence[BaseMessage],
    news: Sequence[BaseMessage],
    adding: Adding | None,
) -> Input:
    """The input of a run: with ids, with what the graph does not know yet, with no call left open.

    ``state``: the messages that the graph has. ``news``: what others said since. ``adding``: how
    the channel adds messages; one that does not is left alone.
    """
    fresh = _given(said_in(given, key), adding)
    if fresh is None:
        return Input(given, [])
    durable = [message for message in fresh if not isinstance(message, RemoveMessage)]
    if len(durable) < len(fresh):
        # Who removes messages knows what is there.
        return Input(_saying(given, key, fresh), durable)
    known = {message.id for message in state if message.id}
    before = [*state, *(one for one in news if one.id not in known)]
    results = [*takewhile(lambda one: isinstance(one, ToolMessage) and one.id not in known, fresh)]
    healed, rest = closed([*before, *results]), fresh[len(results) :]
    if healed[: len(state)] == list(state):
        return Input(_saying(given, key, [*healed[len(state) :], *rest]), durable)
    # Somewhere in the middle: only a list that replaces the old one has it in the right place.
    if adding is Adding.APPENDS:
        return Input(_saying(given, key, [*before[len(state) :], *fresh]), durable)
    anew = [RemoveMessage(id=REMOVE_ALL_MESSAGES), *healed, *rest]
    return Input(_saying(given, key, anew), durable)


def _given(said: Any, adding: Adding | None) -> list[BaseMessage] | None:
    """The messages that a channel is given, with ids; None where they are to stay as they are."""
    if adding is None or (adding is Adding.APPENDS and not is_history(said)):
        return None
    try:
        fresh = convert_to_messages(said if isinstance(said, list) else [said])
    except (NotImplementedError, ValueError):
        # It overwrites the channel, or is for LangGraph to refuse.
        return None
    return [_named(message) for message in fresh]


def _saying(given: Any, key: str, messages: list[BaseMessage]) -> Any:
    """The input with these messages in a channel."""
    if isinstance(given, Mapping):
        return {**given, key: messages}
    if isinstance(given, BaseModel):
        return given.model_copy(update={key: messages})
    return dataclasses.replace(given, **{key: messages})


def closed(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """The messages with each tool call followed at once by its one result.

    Results that stand there keep their order. A call whose result stands elsewhere, or that has
    none, gets it; a result without call is left out.
    """
    at_once = [_results_at_once(messages, place) for place in range(len(messages))]
    placed = {id(result) for results in at_once for result in results}
    elsewhere: dict[str, ToolMessage] = {}
    for message in messages:
        if isinstance(message, ToolMessage) and id(message) not in placed:
            elsewhere.setdefault(message.tool_call_id, message)
    made: list[BaseMessage] = []
    for message, results in zip(messages, at_once, strict=True):
        if not isinstance(message, ToolMessage):
            answered = {result.tool_call_id for result in results}
            missing = [call for call in _calls_of(message) if call.id not in answered]
            made += [message, *results]
            for call in missing:
                made.append(elsewhere.pop(call.id) if call.id in elsewhere else _cut_off(call))
    return made


def _results_at_once(messages: Sequence[BaseMessage], place: int) -> list[ToolMessage]:
    """The results behind a message that belong to its calls, one each."""
    wanted = {call.id for call in _calls_of(messages[place])}
    found = []
    for message in messages[place + 1 :]:
        if not isinstance(message, ToolMessage) or message.tool_call_id not in wanted:
            break
        wanted.remove(message.tool_call_id)
        found.append(message)
    return found


def _calls_of(message: BaseMessage) -> list[ToolCall]:
    """Also those whose arguments are no JSON: they are sent as calls, and want a result."""
    if not isinstance(message, AIMessage):
        return []
    calls = [*message.tool_calls, *message.invalid_tool_calls]
    return [ToolCall(call["id"], call["name"] or "") for call in calls if call["id"]]


def _cut_off(call: ToolCall) -> ToolMessage:
    return ToolMessage(
        CUT_OFF, id=str(uuid.uuid4()), tool_call_id=call.id, name=call.name, status="error"
    )


def _named(message: BaseMessage) -> BaseMessage:
    return message if message.id else message.model_copy(update={"id": str(uuid.uuid4())})


def _role(message: BaseMessage) -> str | None:
    return next((role for kind, role in _ROLES.items() if isinstance(message, kind)), None)


def _content(message: BaseMessage) -> list[Entry]:
    parts = [message.content] if isinstance(message.content, str) else message.content
    content = [made for part in parts if (made := _part(part))]
    if isinstance(message, AIMessage):
        content += [
            {"type": "toolCall", "id": call["id"], "name": call["name"], "arguments": call["args"]}
            for call in (*message.tool_calls, *message.invalid_tool_calls)
        ]
    return content


def _part(part: str | dict[Any, Any]) -> Entry | None:
    """Text as it is; of anything else its kind, as the native form has it all."""
    if isinstance(part, str):
        return {"type": "text", "text": part} if part else None
    kind = part.get("type")
    if kind == "text":
        return {"type": "text", "text": str(part.get("text", ""))}
    # Calls are in the message's own list of them.
    return {"type": str(kind)} if kind not in ("tool_use", "tool_call", "function_call") else None


def _of_model(message: AIMessage) -> Entry:
    about = message.response_metadata
    said: Entry = {
        "api": "langchain",
        "provider": str(about.get("model_provider", "langchain")),
        "model": str(about.get("model_name", "unknown")),
        "stopReason": "toolUse" if message.tool_calls else "stop",
    }
    usage = message.usage_metadata
    if usage is not None:
        said["usage"] = {
            "input": usage["input_tokens"],
            "output": usage["output_tokens"],
            "totalTokens": usage["total_tokens"],
        }
    return said


def _calls(said: Entry) -> list[Any]:
    """The tool calls of a reply that somebody else wrote. A reply that was cut off has none."""
    content = said.get("content")
    parts = content if isinstance(content, list) and said.get("stopReason") not in CUT_SHORT else []
    return [
        {"id": part["id"], "name": part["name"], "args": _arguments(part.get("arguments"))}
        for part in parts
        if isinstance(part, dict) and part.get("type") == "toolCall" and _is_call(part)
    ]


def _is_call(part: Entry) -> bool:
    return all(isinstance(part.get(name), str) and part[name] for name in ("id", "name"))


def _arguments(given: object) -> dict[str, Any]:
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            return {"arguments": given}
    return given if isinstance(given, dict) else {}
