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
        reply = ""
        async for chunk in await client.chat.completions.create(**asked):
            piece = chunk.choices[0].delta.content or "" if chunk.choices else ""
            reply += piece
            yield piece
        await turn.append(turnlock.assistant(reply))
