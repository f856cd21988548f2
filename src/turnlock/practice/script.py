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
    TOOL = "tool"


_NAMES = frozenset(mode.value for mode in Mode)
_TEXTS = ("text", "input_text", "output_text")


class Refusal(Exception):
    """A request that gets an error in OpenAI's form instead of an answer."""

    def __init__(self, status: int, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code


class Command(NamedTuple):
    """A mode and its number: seconds for ``slow``, deltas for ``tokens``, else 0.

    ``tool`` and ``arguments``, a JSON text, are those of a call that ``tool`` asks for.
    """

    mode: Mode
    amount: float = 0.0
    tool: str = ""
    arguments: str = "{}"


class Said(NamedTuple):
    """A message of a request, in whichever format, as far as the practice model reads it."""

    role: str
    text: str


class Chat(NamedTuple):
    """What the practice model needs to know of a request. ``last_text`` is what it answers to."""

    model: str
    stream: bool
    include_usage: bool
    command: Command
    last_text: str
    user_count: int
    prompt_tokens: int


def parse_chat(body: bytes, mode_header: str | None) -> Chat:
    """Read a chat-completion request. Raises `Refusal` (400) when it is none."""
    request = json_object(body)
    messages = request.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refusal(400, "'messages' has to be a list with at least one message")
    said = [Said(_role(message), text_of(message.get("content"))) for message in messages]
    _check_calls(messages)
    options = request.get("stream_options")
    has_usage = isinstance(options, dict) and options.get("include_usage") is True
    return chat_of(request, said, mode_header, include_usage=has_usage)


def chat_of(
    request: Mapping[str, Any], said: list[Said], mode_header: str | None, *, include_usage: bool
) -> Chat:
    """The request with these messages. A tool's result at their end is what is answered."""
    asked = [one.text for one in said if one.role == "user"]
    last_text = said[-1].text if said[-1].role == "tool" else asked[-1] if asked else ""
    model = request.get("model", MODEL)
    return Chat(
        model=model if isinstance(model, str) else MODEL,
        stream=request.get("stream") is True,
        include_usage=include_usage,
        command=_command(last_text, mode_header),
        last_text=last_text,
        user_count=len(asked),
        prompt_tokens=sum(len(one.text.split()) for one in said),
    )


def _check_calls(messages: list[Mapping[str, Any]]) -> None:
    """As OpenAI does, refuse calls that are not followed at once by a result each."""
    waiting: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            answered = str(message.get("tool_call_id"))
            if answered not in waiting:
                raise Refusal(400, "a message with role 'tool' has to follow the call it answers")
            waiting.remove(answered)
            continue
        if waiting:
            break
        calls = message.get("tool_calls")
        made = calls if isinstance(calls, list) else []
        waiting = {str(call.get("id")) for call in made if isinstance(call, dict)}
    if waiting:
        raise Refusal(400, f"no tool message answers these calls: {sorted(waiting)}")


def json_object(body: bytes) -> dict[str, Any]:
    """The object in a request's body. Raises `Refusal`."""
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


def text_of(content: object) -> str:
    """The text of a message's content. Raises `Refusal`."""
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
    return text if part.get("type") in _TEXTS and isinstance(text, str) else ""


def _command(last_text: str, header: str | None) -> Command:
    words = (last_text if header is None else header).split(maxsplit=2)
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
    if mode is Mode.TOOL:
        return Command(mode, 0.0, _tool(argument), words[2] if len(words) > 2 else "{}")
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


def _tool(argument: str) -> str:
    if not argument:
        raise Refusal(400, "'tool' takes the name of a tool, and its arguments as JSON")
    return argument


def pieces(chat: Chat) -> Iterator[str]:
    """The reply's text in the pieces that a stream sends it in."""
    if chat.command.mode is Mode.TOKENS:
        yield from (f"t{number} " for number in range(1, int(chat.command.amount) + 1))
        return
    text = f"practice reply {chat.user_count} to: {chat.last_text}"
    length = max(_PIECE_LENGTH_MIN, math.ceil(len(text) / _PIECES_MAX))
    for start in range(0, len(text), length):
        yield text[start : start + length]


class Paper(NamedTuple):
    """What every object of one answer repeats; makes the objects of chat completions."""

    id: str
    created: int
    model: str

    def begin(self, chat: Chat) -> bytes:
        """The first SSE event, without content."""
        return self._chunk({"role": "assistant", "content": ""})

    def say(self, text: str) -> bytes:
        """The SSE event of a text, which may be empty."""
        return self._chunk({"content": text})

    def call(self, name: str, arguments: str) -> bytes:
        """The SSE events of a call of a tool."""
        call = self._call(name, "") | {"index": 0}
        rest = {"index": 0, "function": {"arguments": arguments}}
        return self._chunk({"tool_calls": [call]}) + self._chunk({"tool_calls": [rest]})

    def end(self, chat: Chat, pieces: int) -> bytes:
        """The SSE events from the reason of the end to ``[DONE]``."""
        events = self._chunk({}, _reason(chat))
        if chat.include_usage:
            usage = {"usage": token_usage(chat, pieces)}
            events += sse(as_json(self._object("chat.completion.chunk", []) | usage))
        return events + sse(b"[DONE]")

    def whole(self, chat: Chat) -> bytes:
        """The answer to a request without ``stream``."""
        said = list(pieces(chat))
        message: dict[str, Any] = {"role": "assistant", "content": "".join(said), "refusal": None}
        if chat.command.mode is Mode.TOOL:
            call = self._call(chat.command.tool, chat.command.arguments)
            message |= {"content": None, "tool_calls": [call]}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _reason(chat)}
        usage = {"usage": token_usage(chat, len(said))}
        return as_json(self._object("chat.completion", [choice]) | usage)

    def _call(self, name: str, arguments: str) -> dict[str, Any]:
        function = {"name": name, "arguments": arguments}
        return {"id": call_id(self.id), "type": "function", "function": function}

    def _chunk(self, delta: Mapping[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return sse(as_json(self._object("chat.completion.chunk", [choice])))

    def _object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }


def call_id(answer_id: str) -> str:
    """The id of the call that an answer makes: there is one at most."""
    return f"call_{answer_id.partition('-')[2]}"


def _reason(chat: Chat) -> str:
    return "tool_calls" if chat.command.mode is Mode.TOOL else "stop"


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
    return as_json({"object": "list", "data": [model]})


def error(message: str, kind: str, code: str | None = None) -> bytes:
    """An error body in OpenAI's form."""
    return as_json({"error": {"message": message, "type": kind, "param": None, "code": code}})


def sse(data: bytes) -> bytes:
    """One event of a server-sent-event stream; ``data`` is one line."""
    return b"data: " + data + b"\n\n"


def as_json(value: Mapping[str, Any]) -> bytes:
    """The value as JSON, on one line."""
    return json.dumps(value, separators=(",", ":")).encode()
