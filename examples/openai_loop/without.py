"""Two messages at the same time, then a model that hangs: a loop of one's own, without Turnlock.

Each turn reads the history, asks, and writes the history back; so the turn that finished in the
meantime is gone. Of the one that hung nothing is kept, not even what the user said.
"""

import asyncio
import json
import tempfile
from pathlib import Path

import openai

from turnlock.practice import PracticeServer


async def handle(client: openai.AsyncOpenAI, history: Path, text: str) -> None:
    messages = [*json.loads(history.read_text()), {"role": "user", "content": text}]
    answer = await client.chat.completions.create(model="practice", messages=messages)
    messages.append({"role": "assistant", "content": answer.choices[0].message.content})
    history.write_text(json.dumps(messages))


async def main(directory: str) -> None:
    history = Path(directory, "alice.json")
    history.write_text("[]")
    async with (
        PracticeServer() as server,
        openai.AsyncOpenAI(base_url=server.url, api_key="any") as client,
    ):
        first = asyncio.create_task(handle(client, history, "/slow 4 write the report"))
        await server.wait_for(lambda seen: seen.requests == 1)
        await handle(client, history, "book a table")
        await first
        try:
            await asyncio.wait_for(handle(client, history, "/hang up on me"), 1)
        except TimeoutError:
            print("(gave up after 1 s)")
    for message in json.loads(history.read_text()):
        print(f"{message['role']}: {message['content']}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(main(directory))
