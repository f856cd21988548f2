"""pydantic-ai's messages as entries of a transcript, and back.

One of their messages may be several of ours: a request with two tool returns and a prompt is three.
Each is written in the transcript's own form, which every other reader knows, and which loses some
(images, thinking signatures, metadata). So the first entry of a message has it in pydantic-ai's own
form too, under ``pydanticAi``, and the others name that entry there: who reads the one leaves the
others out. What was written by somebody else, or by a version whose form this one cannot read, is
read from the common form.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import ValidationError
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ModelResponsePart,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from ...transcript.entries import (
    CUT_SHORT,
    Entry,
    answered_call,
    assistant,
    message_of,
    new_id,
    tool_calls,
    user,
)
from ...transcript.history import spoken, told, uncompacted_branch

# The field of an entry that has a message in pydantic-ai's form, or names the entry that has it.
NATIVE = "pydanticAi"
# In a message's own ``metadata``: the id of its entry, once that is durable.
STAMP = "turnlock"
# An entry of a message that nobody else could make anything of.
_CUSTOM = "pydantic-ai:message"
_STOP_REASONS = {"length": "length", "tool_call": "toolUse", "error": "error"}
_FAILED = frozenset({"failed", "denied", "retried", "interrupted"})


def entries_of(message: ModelMessage) -> list[Entry]:
    """The entries of one message, each with an id. The message is not changed."""
    made = _common(message) or [{"type": "custom", "customType": _CUSTOM, "data": {}}]
    first, *others = [{"id": new_id()} | entry for entry in made]
    # What a tool notes for the program, and no model is told of, may be anything.
    [first[NATIVE]] = ModelMessagesTypeAdapter.dump_python([message], mode="json", fallback=repr)
    return [first, *(entry | {NATIVE: first["id"]} for entry in others)]


def messages_of(entries: Iterable[Entry]) -> list[ModelMessage]:
    """The messages that a model is to be told of, whoever wrote them; calls may lack results."""
    read: set[str] = set()
    made: list[ModelMessage] = []
    for entry in uncompacted_branch(entries):
        native = entry.get(NATIVE)
        if isinstance(native, str) and native in read:
            continue
        message = _native(native, entry) or _foreign(entry)
        if message is not None:
            made.append(message)
            read.add(stamp_of(message) or "")
    return made


def stamp(message: ModelMessage, identity: str) -> None:
    """Note at the message that it is in the transcript, as this entry."""
    message.metadata = {**(message.metadata or {}), STAMP: identity}


def stamp_of(message: ModelMessage) -> str | None:
    """The id of the message's entry, once it is in the transcript."""
    return (message.metadata or {}).get(STAMP)


def tool_result(part: object) -> str | None:
    """The id of the tool call that a part of a request answers; None for any other part."""
    kind = getattr(part, "part_kind", None)
    answers = kind == "tool-return" or (kind == "retry-prompt" and getattr(part, "tool_name", None))
    return getattr(part, "tool_call_id", None) if answers else None


def returned(call_id: str, name: str, text: str) -> ToolReturnPart:
    return ToolReturnPart(tool_name=name, content=text, tool_call_id=call_id)


# Into the transcript


def _common(message: ModelMessage) -> list[Entry]:
    if isinstance(message, ModelResponse):
        return [_reply(message)]
    return [entry for part in message.parts if (entry := _asked(part)) is not None]


def _asked(part: ModelRequestPart) -> Entry | None:
    """A part of a request. Instructions and system prompts are the agent's, not the session's."""
    if tool_result(part) is not None:
        return _result(part)
    if isinstance(part, UserPromptPart):
        return user(_text_of_prompt(part.content))
    if part.part_kind in ("retry-prompt", "retry-feedback"):
        return user(_text_of_retry(part))
    return None


def _result(part: Any) -> Entry:
    is_return = isinstance(part, ToolReturnPart)
    text = part.model_response_str() if is_return else _text_of_retry(part)
    message = {
        "role": "toolResult",
        "toolCallId": part.tool_call_id,
        "toolName": part.tool_name,
        "content": [{"type": "text", "text": text}],
        "isError": not is_return or getattr(part, "outcome", "") in _FAILED,
    }
    return {"type": "message", "message": message}


def _reply(message: ModelResponse) -> Entry:
    reply = assistant(
        "",
        provider=message.provider_name or "unknown",
        model=message.model_name or "unknown",
        api="pydantic-ai",
        stop_reason=_stop_reason(message),
        usage={
            "input": message.usage.input_tokens,
            "output": message.usage.output_tokens,
            "totalTokens": message.usage.input_tokens + message.usage.output_tokens,
        },
    )
    parts = (_said(part) for part in message.parts)
    reply["message"]["content"] = [part for part in parts if part is not None]
    return reply


def _stop_reason(message: ModelResponse) -> str:
    if getattr(message, "state", "complete") == "interrupted":
        return "aborted"
    return _STOP_REASONS.get(message.finish_reason or "", "stop")


def _said(part: ModelResponsePart) -> Entry | None:
    match part:
        case TextPart(content=text):
            return {"type": "text", "text": text}
        case ThinkingPart(content=text):
            return {"type": "thinking", "thinking": text}
        case ToolCallPart():
            return {
                "type": "toolCall",
                "id": part.tool_call_id,
                "name": part.tool_name,
                "arguments": part.args if part.args is not None else {},
            }
    return None


def _text_of_prompt(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(_text_of_item(item) for item in content if _text_of_item(item))


def _text_of_item(item: Any) -> str:
    if isinstance(item, str):
        return item
    text = getattr(item, "content", None)
    if isinstance(text, str):
        return text
    kind = getattr(item, "kind", type(item).__name__)
    if kind == "cache-point":
        return ""
    # Only pydantic-ai's form has what is behind it.
    return f"[{getattr(item, 'url', None) or getattr(item, 'media_type', None) or kind}]"


def _text_of_retry(part: Any) -> str:
    return str(part.model_response())


# From the transcript


def _native(native: object, entry: Entry) -> ModelMessage | None:
    if not isinstance(native, dict):
        return None
    try:
        [message] = ModelMessagesTypeAdapter.validate_python([native])
    except ValidationError:
        return None
    stamp(message, str(entry.get("id")))
    return message


def _foreign(entry: Entry) -> ModelMessage | None:
    message = message_of(entry)
    role, text = message.get("role"), spoken(message.get("content"))
    if role == "assistant":
        return _foreign_reply(entry, message, text)
    call = answered_call(entry)
    if call is not None:
        name = message.get("toolName")
        part = returned(call, name if isinstance(name, str) else "", text)
        return ModelRequest(parts=[part])
    if role == "system":
        return ModelRequest(parts=[SystemPromptPart(text)]) if text else None
    if role != "user":
        text = told(entry)
    return ModelRequest(parts=[UserPromptPart(text)]) if text else None


def _foreign_reply(entry: Entry, message: Entry, text: str) -> ModelMessage | None:
    parts: list[ModelResponsePart] = [TextPart(text)] if text else []
    arguments = dict(_arguments(message.get("content")))
    parts += [
        ToolCallPart(call.name, arguments.get(call.id), tool_call_id=call.id)
        for call in tool_calls(entry)
    ]
    if not parts:
        return None
    model = message.get("model")
    made = ModelResponse(parts=parts, model_name=model if isinstance(model, str) else None)
    if message.get("stopReason") in CUT_SHORT:
        made.state = "interrupted"
    return made


def _arguments(content: object) -> Iterator[tuple[str, Any]]:
    for part in content if isinstance(content, list) else []:
        if isinstance(part, dict) and isinstance(part.get("id"), str):
            given = part.get("arguments")
            yield part["id"], given if isinstance(given, (str, dict)) else {}
