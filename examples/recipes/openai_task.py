"""A loop over OpenAI's client, in tasks, streamed. Needs: turnlock[models]"""

import os
from collections.abc import AsyncIterator

import openai

import turnlock

store = turnlock.open_store(os.environ["STATE_DIR"])
client = turnlock.guard(openai.AsyncOpenAI(), first=60, idle=30)
MODEL = os.environ.get("MODEL", "gpt-4.1-mini")


async def answer(user: str, text: str) -> AsyncIterator[str]:
    async with store.turn(turnlock.session_key("main", user)) as turn:
        await turn.append(turnlock.user(text))
        asked = {"model": MODEL, "messages": await turn.messages(), "stream": True}
        reply, reason = "", None
        async for chunk in await client.chat.completions.create(**asked):
            for choice in chunk.choices[:1]:
                reason = choice.finish_reason or reason
                reply += (piece := choice.delta.content or "")
                yield piece
        if reason is None:  # the client takes a stream that was cut for one that ended
            raise ConnectionError("the model's stream was cut")
        await turn.append(turnlock.assistant(reply))
