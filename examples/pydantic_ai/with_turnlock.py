"""Two messages at once, then a model that hangs: the same agent on a session of Turnlock.

The runs come one after the other, the second with what the first one left; the run that hung loses
the session by its limit, and what its user said is kept. Without it: without.py.
"""

import asyncio
import tempfile

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

import turnlock
from turnlock.integrations.pydantic_ai import TurnlockSession
from turnlock.practice import PracticeServer


async def handle(agent: Agent, text: str) -> None:
    await agent.run(text)


def transcript(store: turnlock.Store) -> None:
    for entry in store.read("main/alice"):
        if entry["type"] == "message":
            message = entry["message"]
            print(f"{message['role']}:", message["content"][0]["text"])
        elif "error" in entry["data"]:
            print("marker:", entry["data"]["reason"])


async def main(directory: str) -> None:
    store = turnlock.open_store(directory)
    session = TurnlockSession(store, "main/alice", first=5)
    async with PracticeServer() as server:
        provider = OpenAIProvider(base_url=server.url, api_key="none")
        model = OpenAIChatModel("practice", provider=provider)
        async with Agent(model, capabilities=[session]) as agent:
            await asyncio.gather(handle(agent, "book a table"), handle(agent, "and a taxi"))
            try:
                await handle(agent, "/hang and wait")
            except turnlock.LeaseRevoked as revoked:
                print(f"(revoked: {revoked.reason})")
            await handle(agent, "are you there?")
    transcript(store)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(main(directory))
