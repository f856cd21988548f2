"""Strands under Turnlock: each question to an agent is a turn of its session."""

from typing import Any

import openai
from strands import Agent
from strands.models.openai import OpenAIModel

import turnlock


async def answer(store: turnlock.Store, key: str, text: str, base_url: str) -> str:
    async with (
        store.turn(key) as turn,
        turnlock.guard(openai.AsyncOpenAI(base_url=base_url, api_key="any")) as client,
    ):
        said = [one for one in await turn.messages() if one["role"] != "tool" and one["content"]]
        before: Any = [{"role": one["role"], "content": [{"text": one["content"]}]} for one in said]
        await turn.append(turnlock.user(text))
        agent = Agent(OpenAIModel(client, model_id="practice"), before, callback_handler=None)
        reply = str(await agent.invoke_async(text)).strip()
        await turn.append(turnlock.assistant(reply))
        return reply
