"""What a model is to the rest: messages in, content out, one kind of error."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple, Protocol

Message = Mapping[str, Any]
"""One message in OpenAI's form: ``{"role": "user", "content": "..."}``."""


class Delta(NamedTuple):
    """A piece of the reply's content; never empty."""

    text: str


class Thinking(NamedTuple):
    """A piece of the model's reasoning, which is no part of its reply.

    It is progress: a model that reasons for minutes is at work. ``text`` is empty where the
    provider shows no more than that. What bounds a model that only thinks is the whole turn.
    """

    text: str = ""


class Finished(NamedTuple):
    """The end of a complete reply.

    ``reason`` is OpenAI's word for it: ``stop``, ``length``, ``content_filter``, ``tool_calls``, or
    another that the endpoint gave. ``usage`` are its token counts under OpenAI's names, or None
    when it gave none; ``model`` is the model that it says has answered.
    """

    reason: str
    usage: Mapping[str, Any] | None
    model: str


class Model(Protocol):
    """A model behind an endpoint. ``api`` names the protocol that it speaks."""

    provider: str
    model: str
    api: str

    def stream(
        self, messages: Sequence[Message]
    ) -> AsyncGenerator[Delta | Thinking | Finished, None]:
        """Ask for a reply: content as it arrives, then exactly one `Finished` as the last item.

        Each item is progress: signs of life without content are not passed on, so that whoever
        waits for the next item can tell a slow reply from none. A stream that ends without the
        endpoint's word that it is complete raises `ModelError` with kind ``interrupted``.

        Only the time to connect is limited here. Cancelling, or closing the generator, ends the
        call and its connection at once. Raises `ModelError` for every failure of the endpoint.
        """
        ...

    async def aclose(self) -> None:
        """Drop all connections. Calls that are under way fail with `ModelError`."""
        ...


async def complete(model: Model, messages: Sequence[Message]) -> tuple[str, Finished]:
    """The whole reply as one text. Without limits of its own, as `Model.stream`."""
    parts: list[str] = []
    async with aclosing(model.stream(messages)) as items:
        async for item in items:
            if isinstance(item, Finished):
                return "".join(parts), item
            if isinstance(item, Delta):
                parts.append(item.text)
    raise AssertionError("a model's stream ended without Finished and without ModelError")
