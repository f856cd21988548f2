"""agno under Turnlock: each question to an agent is a turn of its session."""

import openai
from agno.agent import Agent
from agno.models.message import Message
from agno.models.openai import OpenAIChat

import turnlock


async def answer(store: turnlock.Store, key: str, text: str, base_url: str) -> str:
    async with (
        store.turn(key) as turn,
        turnlock.guard(openai.AsyncOpenAI(base_url=base_url, api_key="any")) as client,
    ):
        await turn.append(turnlock.user(text))
        said = [one for one in await turn.messages() if one["role"] != "tool" and one["content"]]
        agent = Agent(model=OpenAIChat(id="practice", async_client=client), telemetry=False)
        before = [Message(role=one["role"], content=one["content"]) for one in said]
        run = await agent.arun(before)
        await turn.check()  # agno returns from a failed run as from any other
        if run.status != "COMPLETED":
            raise RuntimeError(f"the run failed: {run.content}")
        await turn.append(turnlock.assistant(str(run.content)))
        return str(run.content)
