"""Two messages at once, then a model that hangs: a history in a file, without Turnlock.

Both runs load the same history and save their own over it, so one finished turn is gone; of the one
that hung nothing is kept, not even what the user said. With it: with_turnlock.py.
"""

import asyncio
import tempfile
from pathlib import Path

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, TextPart, UserPromptPart
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from turnlock.practice import PracticeServer


def load(history: Path) -> list[ModelMessage]:
    return ModelMessagesTypeAdapter.validate_json(
        history.read_bytes() if history.exists() else b"[]"
    )


async def handle(agent: Agent, history: Path, text: str) -> None:
    result = await agent.run(text, message_history=load(history))
    save(history, result.all_messages_json())


def save(history: Path, messages: bytes) -> None:
    history.write_bytes(messages)


def transcript(history: Path) -> None:
    for message in load(history):
        for part in message.parts:
            if isinstance(part, UserPromptPart):
                print("user:", part.content)
            elif isinstance(part, TextPart):
                print("assistant:", part.content)


async def main(directory: str) -> None:
    history = Path(directory, "alice.json")
    async with PracticeServer() as server:
        provider = OpenAIProvider(base_url=server.url, api_key="none")
        async with Agent(OpenAIChatModel("practice", provider=provider)) as agent:
            await asyncio.gather(
                handle(agent, history, "book a table"),
                handle(agent, history, "and a taxi"),
            )
            try:
                await asyncio.wait_for(handle(agent, history, "/hang and wait"), 1)
            except TimeoutError:
                print("(gave up after 1 s)")
    transcript(history)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(main(directory))
