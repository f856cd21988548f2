"""Replies in OpenAI's form: one object, or the events of a stream."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from .exchange import Reply

DONE = b"data: [DONE]\n\n"
KEEPALIVE = b": keepalive\n\n"


class Paper(NamedTuple):
    """What every object of one answer repeats."""

    identity: str
    created: int
    model: str

    def completion(self, reply: Reply) -> bytes:
        """The whole answer of a request without ``stream``."""
        message = {"role": "assistant", "content": reply.text, "refusal": None}
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": reply.reason,
        }
        whole = self._object("chat.completion", [choice])
        return _json(whole | {"usage": reply.usage} if reply.usage else whole)

    def opening(self) -> bytes:
        return self._chunk({"role": "assistant", "content": ""}, None)

    def piece(self, text: str) -> bytes:
        return self._chunk({"content": text}, None)

    def ending(self, reply: Reply, *, include_usage: bool) -> bytes:
        """Everything after the last piece of a complete reply."""
        end = self._chunk({}, reply.reason)
        if include_usage and reply.usage:
            end += event(_json(self._object("chat.completion.chunk", []) | {"usage": reply.usage}))
        return end + DONE

    def _chunk(self, delta: Mapping[str, str], reason: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return event(_json(self._object("chat.completion.chunk", [choice])))

    def _object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{self.identity}",
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }


def event(data: bytes) -> bytes:
    """One event of a stream; ``data`` is one line."""
    return b"data: " + data + b"\n\n"


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
