"""Which pieces of a model's response carry content, whoever's wire format it is.

Bytes are no progress: a connection that only says ``: ping``, or repeats empty deltas, hangs as
surely as a silent one. What counts is a data event of a stream (server-sent events, or one JSON
value a line) that holds a text of the model, a part of a tool call, or the reason for its end; and
the end of an answer that comes in one piece and is no error.

The formats (OpenAI chat completions, responses and assistants, Anthropic, Google, Cohere, Ollama)
name these differently, but from one small vocabulary: so an event is searched for a key of it with
a text behind that is not empty. Inside of a JSON text a quotation mark is escaped, so nothing that
a model says looks like a key. Lines are looked at one by one: of JSON that goes over several, its
texts are found. An event that is no JSON counts when there is anything in it; so does all of a
stream of another kind, and of a compressed one, as nobody can look into it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

# Keys without their first quotation mark, and what has to follow. While `re` searches no other
# thread runs, so white space is taken by one part alone: two would make it quadratic.
_TEXT = rb"""
(?:content|text|delta|thinking|reasoning|reasoning_content|reasoning_text|refusal|transcript|data
  |arguments|partial_json|response|tool_plan|tool_use_id|partial_image_b64)"\s*:\s*"(?!")
"""
_ASSISTANTS_TEXT = rb"""
text"\s*:\s*\{[^{}]*"value"\s*:\s*"(?!")
"""
# For a reason that is none some write "null".
_END = rb"""
(?:finish_reason|finishReason|stop_reason|done_reason)"\s*:\s*"(?!"|null")
"""
_TOOL = rb"""
(?:function|function_call|functionCall|content_block|tool_calls)"\s*:\s*(?:\[\s*)?\{
  [^{}]*"name"\s*:\s*"(?!")
"""
# Of tools that the provider runs: that they run, or what came of it.
_HOSTED_TOOL = rb"""
(?:executableCode|codeExecutionResult)"\s*:\s*\{
|partialArgs"\s*:\s*\[\s*\{
|type"\s*:\s*"response\.[a-z_]+_call\.
"""
_KEYS = b"|".join((_TEXT, _ASSISTANTS_TEXT, _END, _TOOL, _HOSTED_TOOL))
_CONTENT = re.compile(rb'"(?:%s)' % _KEYS, re.VERBOSE)
# What a line begins with that is a part of an event's JSON.
_JSON = re.compile(rb'[{}\[\]]|"[^"]*"\s*:')
_EVENTS = "text/event-stream"
_LINES = ("application/x-ndjson", "application/jsonl", "application/json-seq")
_WHOLE = ("application/json", "text/html", "text/plain")
# A line without an end is content of its own kind, and is not kept for ever.
_LINE_MAX = 4 * 1024 * 1024


class Pieces:
    """Says of each chunk of a body whether content came with it.

    ``is_whole``: the body is content once it is at its end, and not before.
    """

    is_whole = False

    def counts(self, chunk: bytes) -> bool:
        raise NotImplementedError

    def passes(self, chunk: bytes) -> None:
        """A chunk of which nobody wants to know: no more than where it ends is looked at."""


class WholeBody(Pieces):
    """One answer: it is there, or it is not; parts of it are no progress."""

    is_whole = True

    def counts(self, chunk: bytes) -> bool:
        return False


class AnyBytes(Pieces):
    def counts(self, chunk: bytes) -> bool:
        return bool(chunk)


class Lines(Pieces):
    """Lines of which each that begins with ``prefix`` is an event."""

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix
        self._rest = b""

    def counts(self, chunk: bytes) -> bool:
        data = self._rest + chunk if self._rest else chunk
        if b"\r" in data:
            data = data.replace(b"\r", b"\n")
        lines = data.split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > _LINE_MAX:
            self._rest = b""
            return True
        return any(map(self._is_content, lines))

    def passes(self, chunk: bytes) -> None:
        end = max(chunk.rfind(b"\n"), chunk.rfind(b"\r")) + 1
        self._rest = chunk[end:] if end else (self._rest + chunk)[-_LINE_MAX:]

    def _is_content(self, line: bytes) -> bool:
        if not line.startswith(self._prefix):
            return False
        data = line[len(self._prefix) :].strip()
        if _JSON.match(data):
            return data == b"[DONE]" or _CONTENT.search(data) is not None
        return bool(data)


def pieces_of(headers: Mapping[str, str]) -> Pieces:
    """How to look at the body of a response with these headers."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in _WHOLE or kind.endswith("+json"):
        return WholeBody()
    if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        return AnyBytes()
    if kind == _EVENTS:
        return Lines(b"data:")
    return Lines(b"") if kind in _LINES else AnyBytes()
