"""Two messages to one session at the same time, with a session service of google-adk.

The second is answered while the model still works on the first. Then the first answer comes, is
paid for, and is refused: the session is not what it was when the first run read it.
"""

import asyncio
import tempfile
from typing import Any

from google.adk.agents import LlmAgent
from google.adk.models.lite_llm import LiteLlm
from google.adk.runners import Runner
from google.adk.sessions.sqlite_session_service import SqliteSessionService
from google.genai.types import Content, Part

from turnlock.practice import PracticeServer

NAME: dict[str, Any] = {"app_name": "demo", "user_id": "alice", "session_id": "s1"}


async def say(runner: Runner, text: str) -> None:
    message = Content(role="user", parts=[Part(text=text)])
    try:
        async for _ in runner.run_async(user_id="alice", session_id="s1", new_message=message):
            pass
    except ValueError as error:
        print(f"lost the answer to {text!r}: {type(error).__name__}")


async def main(directory: str) -> None:
    async with PracticeServer() as server:
        service = SqliteSessionService(f"{directory}/sessions.db")
        model = LiteLlm(model="openai/practice", api_base=server.url, api_key="any")
        agent = LlmAgent(name="assistant", model=model)
        runner = Runner(app_name="demo", agent=agent, session_service=service)
        await service.create_session(**NAME)

        first = asyncio.create_task(say(runner, "/slow 3 first"))
        await server.wait_for(lambda seen: seen.requests == 1)
        await say(runner, "second")
        await first

        session = await service.get_session(**NAME)
        for event in session.events if session else []:
            if event.content and event.content.parts:
                print(f"{event.author}: {event.content.parts[0].text}")


with tempfile.TemporaryDirectory() as directory:
    asyncio.run(main(directory))
