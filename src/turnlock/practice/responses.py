"""The practice model in the format of OpenAI's responses (``POST /v1/responses``).

What is said is the same as in chat completions (`script`); requests and answers are of other
shapes. An answer is one item, a message or a call of a tool, and a stream repeats it as it grows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .script import Chat, Mode, Refusal, Said, as_json, call_id, chat_of, json_object, pieces, sse
from .script import text_of as content_text

_ROLES = {"function_call_output": "tool", "function_call": "assistant"}


def parse_response(body: bytes, mode_header: str | None) -> Chat:
    """Read a request for a response. Raises `Refusal` (400) when it is none."""
    request = json_object(body)
    items = request.get("input")
    if isinstance(items, str):
        items = [{"role": "user", "content": items}]
    if not isinstance(items, list) or not items:
        raise Refusal(400, "'input' has to be text, or a list with at least one item")
    said = [_said(item) for item in items]
    _check_calls(items)
    return chat_of(request, said, mode_header, include_usage=True)


def _said(item: object) -> Said:
    if not isinstance(item, dict):
        raise Refusal(400, "each item of 'input' has to be an object")
    kind = str(item.get("type", "message"))
    if kind == "message":
        return Said(str(item.get("role")), content_text(item.get("content")))
    output = item.get("output") if kind == "function_call_output" else None
    return Said(_ROLES.get(kind, kind), content_text(output))


def _check_calls(items: list[Mapping[str, Any]]) -> None:
    """As OpenAI does, refuse a call without output and an output without call."""
    calls, outputs = _call_ids(items, "function_call"), _call_ids(items, "function_call_output")
    for identity in sorted(calls - outputs):
        raise Refusal(400, f"No tool output found for function call {identity}.")
    for identity in sorted(outputs - calls):
        raise Refusal(400, f"No tool call found for function call output with call_id {identity}.")


def _call_ids(items: list[Mapping[str, Any]], kind: str) -> set[str]:
    return {str(item.get("call_id")) for item in items if item.get("type") == kind}


class ResponsesPaper(NamedTuple):
    """What every object of one answer repeats; makes the objects of responses."""

    id: str
    created: int
    model: str

    def begin(self, chat: Chat) -> bytes:
        """The first SSE events, without content."""
        response = {"response": self._response("in_progress", [])}
        events = [
            self._event("response.created", response),
            self._event("response.in_progress", response),
        ]
        item = self._item(chat) | {"status": "in_progress"}
        if chat.command.mode is Mode.TOOL:
            item["arguments"] = ""
        else:
            item["content"] = []
        events.append(self._event("response.output_item.added", {"item": item, "output_index": 0}))
        if "content" in item:
            part = {"part": {"type": "output_text", "text": "", "annotations": []}}
            events.append(self._event("response.content_part.added", self._at() | part))
        return b"".join(events)

    def say(self, text: str) -> bytes:
        """The SSE event of a text, which may be empty."""
        return self._event("response.output_text.delta", self._at() | {"delta": text})

    def call(self, name: str, arguments: str) -> bytes:
        """The SSE events of a call of a tool."""
        at = {"item_id": self._item_id(), "output_index": 0}
        return self._event("response.function_call_arguments.delta", at | {"delta": arguments})

    def end(self, chat: Chat, count: int) -> bytes:
        """The SSE events of the whole item, and of the whole response."""
        item = self._item(chat)
        response = self._response("completed", [item]) | {"usage": _usage(chat, count)}
        return self._event(
            "response.output_item.done", {"item": item, "output_index": 0}
        ) + self._event("response.completed", {"response": response})

    def whole(self, chat: Chat) -> bytes:
        """The answer to a request without ``stream``."""
        usage = {"usage": _usage(chat, len(list(pieces(chat))))}
        return as_json(self._response("completed", [self._item(chat)]) | usage)

    def _item(self, chat: Chat) -> dict[str, Any]:
        if chat.command.mode is Mode.TOOL:
            return self._call(chat.command.tool, chat.command.arguments)
        text = {"type": "output_text", "text": "".join(pieces(chat)), "annotations": []}
        message = {"type": "message", "id": self._item_id(), "role": "assistant"}
        return message | {"status": "completed", "content": [text]}

    def _call(self, name: str, arguments: str) -> dict[str, Any]:
        return {
            "type": "function_call",
            "id": self._item_id(),
            "call_id": call_id(self.id),
            "name": name,
            "arguments": arguments,
            "status": "completed",
        }

    def _item_id(self) -> str:
        return f"item_{self.id}"

    def _at(self) -> dict[str, Any]:
        return {"item_id": self._item_id(), "output_index": 0, "content_index": 0, "logprobs": []}

    def _event(self, kind: str, data: Mapping[str, Any]) -> bytes:
        return b"event: %s\n" % kind.encode() + sse(
            as_json({"type": kind, "sequence_number": 0, **data})
        )

    def _response(self, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "model": self.model,
            "status": status,
            "output": output,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "parallel_tool_calls": True,
            "temperature": 1.0,
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
        }


def _usage(chat: Chat, count: int) -> dict[str, Any]:
    return {
        "input_tokens": chat.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": count,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": chat.prompt_tokens + count,
    }
