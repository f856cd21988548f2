"""A chat completion request: what it asks for, checked, and nothing else of it.

Only roles and texts go on to the transcript and the model. Options that change what an answer means
are refused, not ignored; those that only tune the model are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .errors import Refusal, bad_request

Message = dict[str, Any]

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_INSTRUCTIONS = frozenset({"system", "developer"})
_UNSUPPORTED = ("tools", "functions", "audio", "web_search_options")
# The values with which an answer is what it is without the option.
_WITHOUT_EFFECT: Mapping[str, tuple[object, ...]] = {
    "n": (1,),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "logprobs": (False,),
    "top_logprobs": (0,),
}
_MESSAGES_MAX = 100_000


class Said(NamedTuple):
    """One message of a request, its content not looked at yet."""

    place: int
    role: str
    content: object

    def text(self) -> str:
        """Raises `Refusal` for a content that is no text."""
        content = self.content
        if content is None:
            return ""
        if isinstance(content, str):
            return _encodable(content)
        if isinstance(content, list):
            return "".join(self._part(part) for part in content)
        raise self._refuse("it has to be text, or a list of text parts")

    def _part(self, part: object) -> str:
        if isinstance(part, dict) and part.get("type") == "text":
            text = part.get("text")
            if isinstance(text, str):
                return _encodable(text)
        raise self._refuse("only parts of type 'text' are supported")

    def _refuse(self, why: str) -> Refusal:
        param = f"messages[{self.place}].content"
        return bad_request(f"the content of message {self.place}: {why}", param=param)


class NewInSession(NamedTuple):
    """What a request adds to a session.

    ``system``: the client's own instructions, for this call only. ``texts``: the user's messages
    after the last assistant message. ``seen``: that assistant message, None when there is none.
    """

    system: tuple[str, ...]
    texts: tuple[str, ...]
    seen: str | None


class ChatRequest(NamedTuple):
    """``user`` is None when the body names none; ``include_usage`` concerns streams only."""

    model: str
    stream: bool
    include_usage: bool
    user: str | None
    messages: tuple[Said, ...]

    def in_session(self) -> NewInSession:
        """The request's part of a session. Raises `Refusal` when it says nothing new."""
        system = tuple(said.text() for said in self.messages if said.role in _INSTRUCTIONS)
        last = max((said.place for said in self.messages if said.role == "assistant"), default=-1)
        new = [said for said in self.messages[last + 1 :] if said.role not in _INSTRUCTIONS]
        texts = tuple(_user_text(said) for said in new)
        if not texts:
            raise bad_request(
                "there is no user message after the last assistant message", param="messages"
            )
        return NewInSession(
            system, texts, _lenient_text(self.messages[last]) if last >= 0 else None
        )

    def alone(self) -> list[Message]:
        """The messages for a model, of a request without a session."""
        made = [_plain(said) for said in self.messages]
        if not any(message["role"] == "user" for message in made):
            raise bad_request("there is no user message", param="messages")
        return [m for m in made if m["content"] or m["role"] != "assistant"]


def parse_chat(body: Mapping[str, Any]) -> ChatRequest:
    """Check a request's body. Raises `Refusal`."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise bad_request("'messages' has to be a list with at least one message", param="messages")
    if len(messages) > _MESSAGES_MAX:
        raise bad_request(f"there are more than {_MESSAGES_MAX} messages", param="messages")
    _check_options(body)
    return ChatRequest(
        _text_field(body, "model") or _missing("model"),
        _flag(body, "stream"),
        _include_usage(body),
        _text_field(body, "user"),
        tuple(_said(place, message) for place, message in enumerate(messages)),
    )


def _check_options(body: Mapping[str, Any]) -> None:
    for name in _UNSUPPORTED:
        if body.get(name):
            raise _unsupported(name, "")
    for name, known in _WITHOUT_EFFECT.items():
        value = body.get(name)
        if value is not None and not _is_among(value, known):
            raise _unsupported(name, f" with another value than {' or '.join(map(repr, known))}")


def _is_among(value: object, known: tuple[object, ...]) -> bool:
    # By type too: True is 1.
    return any(type(value) is type(one) and value == one for one in known)


def _unsupported(name: str, value: str) -> Refusal:
    text = f"{name!r}{value} is not supported by this gateway"
    return bad_request(text, param=name, code="unsupported_parameter")


def _include_usage(body: Mapping[str, Any]) -> bool:
    options = body.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict):
        raise bad_request("'stream_options' has to be an object", param="stream_options")
    return _flag(options, "include_usage")


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise bad_request(f"{name!r} has to be true or false", param=name)
    return bool(value)


def _text_field(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise bad_request(f"{name!r} has to be text", param=name)
    return value or None


def _missing(name: str) -> str:
    raise bad_request(f"{name!r} is missing", param=name)


def _said(place: int, message: object) -> Said:
    role = message.get("role") if isinstance(message, dict) else None
    if not isinstance(message, dict) or not isinstance(role, str) or role not in ROLES:
        raise bad_request(
            f"message {place} has to be an object with one of these roles: {', '.join(ROLES)}",
            param=f"messages[{place}]",
        )
    return Said(place, role, message.get("content"))


def _user_text(said: Said) -> str:
    if said.role != "user":
        raise bad_request(
            f"message {said.place}: the role {said.role!r} cannot follow the last assistant"
            " message; tool calls are not supported",
            param=f"messages[{said.place}]",
        )
    text = said.text()
    if not text:
        raise bad_request(f"message {said.place} is empty", param=f"messages[{said.place}]")
    return text


def _plain(said: Said) -> Message:
    if said.role in ("tool", "function"):
        raise bad_request(
            f"message {said.place}: tool calls are not supported",
            param=f"messages[{said.place}]",
        )
    return {"role": said.role, "content": said.text()}


def _lenient_text(said: Said) -> str:
    try:
        return said.text()
    except Refusal:
        # A reply in parts of other kinds is none of ours, which is all that it is compared with.
        return ""


def _encodable(text: str) -> str:
    """The text as a transcript keeps it: U+FFFD for each half of a cut character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
