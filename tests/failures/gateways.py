"""A gateway in the test's loop, and what becomes of a message to it, in a word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import openai

from tests.gateway import serving
from tests.gateway.serving import Scripted, Served
from tests.helpers import PATIENCE

# The first two pass soon; a turn that only its own limit ends has another code.
LIMITS = "first_token = 0.8\nidle = 0.8\nturn = 5.0\ndrain = 0.5"


class Talk(NamedTuple):
    client: openai.AsyncOpenAI

    async def __call__(
        self,
        text: str,
        session: str | None = "a",
        *,
        agent: str = "main",
        stream: bool = False,
        heard: list[str] | None = None,
    ) -> str:
        """The reply; else the code of the error, or that there was no answer.

        ``heard`` gets each piece of a stream as it comes.
        """
        headers = {} if session is None else serving.in_session(session)
        try:
            async with asyncio.timeout(PATIENCE):
                answer: Any = await self.client.chat.completions.create(
                    model=agent, messages=serving.user(text), extra_headers=headers, stream=stream
                )
                if not stream:
                    return str(answer.choices[0].message.content)
                pieces = [] if heard is None else heard
                async for chunk in answer:
                    pieces += [one.delta.content or "" for one in chunk.choices]
                return "".join(pieces)
        except (TimeoutError, openai.APIConnectionError):
            return "no answer"
        except openai.APIError as error:
            return str(error.code)


def models(*, provider: str = "openai", model: str = "m", **urls: str) -> str:
    """Configuration: an agent for each name, and its model at that url."""
    return "\n".join(
        f'[models.{name}]\nprovider = "{provider}"\nmodel = "{model}"\nbase_url = "{url}"\n'
        f'[agents.{name}]\nmodel = "{name}"'
        for name, url in urls.items()
    )


@asynccontextmanager
async def talking(
    tmp_path: Path, model: Scripted | None = None, *, limits: str = LIMITS, rest: str = ""
) -> AsyncIterator[tuple[Served, Talk]]:
    """A gateway, and a client of it that retries nothing."""
    async with (
        serving.served(tmp_path, model, limits=limits, rest=rest) as gateway,
        gateway.client(max_retries=0) as client,
    ):
        yield gateway, Talk(client)
