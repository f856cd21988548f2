"""What the practice model says: requests in, chat-completion JSON out, without any I/O.

The reply and its pieces follow from the request alone, so that two runs of a test see the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

MODEL = "practice"
SECONDS_MAX = 3600.0
TOKENS_MAX = 1_000_000
_PIECE_LENGTH_MIN = 8
_PIECES_MAX = 32


class Mode(StrEnum):
    """How a request is answered. `REPLY` is the ordinary answer; the others are faults."""

    REPLY = "reply"
    HANG = "hang"
    STALL = "stall"
    DRIBBLE = "dribble"
    COMMENTS = "comments"
    RESET = "reset"
    CUT = "cut"
    RATE_LIMIT = "429"
    SERVER_ERROR = "500"
    GARBAGE = "garbage"
    LEAK = "leak"
    OPEN = "open"
    SLOW = "slow"
    TOKENS = "tokens"


_NAMES = frozenset(mode.value for mode in Mode)


class Refusal(Exception):
    """A request that gets an error in OpenAI's form instead of an answer."""

    def __init__(self, status: int, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code


class Command(NamedTuple):
    """A mode and its number: seconds for ``slow``, deltas for ``tokens``, else 0."""

    mode: Mode
    amount: float = 0.0


class Chat(NamedTuple):
    """What the practice model needs to know of a chat-completion request."""

    model: str
    stream: bool
    include_usage: bool
    command: Command
    user_text: str
    user_count: int
    prompt_tokens: int


def parse_chat(body: bytes, mode_header: str | None) -> Chat:
    """Read a chat-completion request. Raises `Refusal` (400) when it is none."""
    request = _object(body)
    messages = request.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refusal(400, "'messages' has to be a list with at least one message")
    texts = [(_role(message), _text(message)) for message in messages]
    said = [text for role, text in texts if role == "user"]
    model = request.get("model", MODEL)
    options = request.get("stream_options")
    return Chat(
        model=model if isinstance(model, str) else MODEL,
        stream=request.get("stream") is True,
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        command=_command(said[-1] if said else "", mode_header),
        user_text=said[-1] if said else "",
        user_count=len(said),
        prompt_tokens=sum(len(text.split()) for _, text in texts),
    )


def _object(body: bytes) -> dict[str, Any]:
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        raise Refusal(400, "the body is not JSON") from None
    if not isinstance(request, dict):
        raise Refusal(400, "the body is not a JSON object")
    return request


def _role(message: object) -> str:
    role = message.get("role") if isinstance(message, dict) else None
    if not isinstance(role, str):
        raise Refusal(400, "each message has to be an object with a 'role'")
    return role


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if content is None:  # an assistant's message that only calls tools
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_part(part) for part in content)
    raise Refusal(400, "a message's 'content' has to be text or a list of parts")


def _part(part: object) -> str:
    if not isinstance(part, dict):
        raise Refusal(400, "each part of a 'content' has to be an object")
    text = part.get("text")
    return text if part.get("type") == "text" and isinstance(text, str) else ""


def _command(user_text: str, header: str | None) -> Command:
    words = (user_text if header is None else header).split(maxsplit=2)
    if header is None:
        if not words or words[0][0] != "/" or words[0][1:] not in _NAMES:
            return Command(Mode.REPLY)
    elif not words or words[0] not in _NAMES:
        raise Refusal(400, f"X-Practice-Mode has to be one of {', '.join(sorted(_NAMES))}")
    mode = Mode(words[0].removeprefix("/"))
    argument = words[1] if len(words) > 1 else ""
    if mode is Mode.SLOW:
        return Command(mode, _seconds(argument))
    if mode is Mode.TOKENS:
        return Command(mode, _count(argument))
    return Command(mode)


def _seconds(argument: str) -> float:
    try:
        seconds = float(argument)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= SECONDS_MAX:
        raise Refusal(400, f"'slow' takes a number of seconds up to {SECONDS_MAX:g}")
    return seconds


def _count(argument: str) -> int:
    count = int(argument) if argument.isascii() and argument.isdigit() and len(argument) < 9 else 0
    if not 0 < count <= TOKENS_MAX:
        raise Refusal(400, f"'tokens' takes a whole number up to {TOKENS_MAX}")
    return count


def pieces(chat: Chat) -> Iterator[str]:
    """The reply's text in the pieces that a stream sends it in."""
    if chat.command.mode is Mode.TOKENS:
        yield from (f"t{number} " for number in range(1, int(chat.command.amount) + 1))
        return
    text = f"practice reply {chat.user_count} to: {chat.user_text}"
    length = max(_PIECE_LENGTH_MIN, math.ceil(len(text) / _PIECES_MAX))
    for start in range(0, len(text), length):
        yield text[start : start + length]


class Paper(NamedTuple):
    """What every object of one answer repeats."""

    id: str
    created: int
    model: str

    def completion(self, text: str, usage: Mapping[str, int]) -> bytes:
        """The whole answer of a request without ``stream``."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        return _json(self._object("chat.completion", [choice]) | {"usage": usage})

    def chunk(self, delta: Mapping[str, str], finish_reason: str | None = None) -> bytes:
        """One SSE event with a delta."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return sse(_json(self._object("chat.completion.chunk", [choice])))

    def usage(self, usage: Mapping[str, int]) -> bytes:
        """The SSE event that a request with ``include_usage`` gets after its last delta."""
        return sse(_json(self._object("chat.completion.chunk", []) | {"usage": usage}))

    def _object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }


def token_usage(chat: Chat, completion_tokens: int) -> dict[str, int]:
    """Token counts: words of the prompt, pieces of the reply."""
    return {
        "prompt_tokens": chat.prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": chat.prompt_tokens + completion_tokens,
    }


def models(created: int) -> bytes:
    """The answer to ``GET /v1/models``."""
    model = {"id": MODEL, "object": "model", "created": created, "owned_by": "turnlock"}
    return _json({"object": "list", "data": [model]})


def error(message: str, kind: str, code: str | None = None) -> bytes:
    """An error body in OpenAI's form."""
    return _json({"error": {"message": message, "type": kind, "param": None, "code": code}})


def sse(data: bytes) -> bytes:
    """One event of a server-sent-event stream; ``data`` is one line."""
    return b"data: " + data + b"\n\n"


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
