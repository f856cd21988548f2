"""Two messages at the same time, then a model that hangs: the same loop, each time round a turn.

The second waits for the first, and knows of it. The one that hung loses the session by its limit;
what the user said is kept, with a marker that says what became of it.
"""

import asyncio
import tempfile

import openai

import turnlock
from turnlock.practice import PracticeServer


async def handle(client: openai.AsyncOpenAI, store: turnlock.Store, text: str) -> None:
    async with store.turn("main/alice") as turn:
        await turn.append(turnlock.user(text))
        messages = await turn.messages()
        answer = await client.chat.completions.create(model="practice", messages=messages)
        await turn.append(turnlock.assistant(answer.choices[0].message.content))


def show(store: turnlock.Store) -> None:
    for entry in store.read("main/alice"):
        if entry["type"] == "message":
            message = entry["message"]
            print(f"{message['role']}: {message['content'][0]['text']}")
        elif "error" in entry["data"]:
            print(f"marker: {entry['data']['reason']}")


async def main(directory: str) -> None:
    store = turnlock.open_store(directory)
    async with (
        PracticeServer() as server,
        turnlock.guard(openai.AsyncOpenAI(base_url=server.url, api_key="any"), first=8) as client,
    ):
        first = asyncio.create_task(handle(client, store, "/slow 4 write the report"))
        await server.wait_for(lambda seen: seen.requests == 1)
        await handle(client, store, "book a table")
        await first
        try:
            await handle(client, store, "/hang up on me")
        except turnlock.LeaseRevoked as revoked:
            print(f"(revoked: {revoked.reason})")
    show(store)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(main(directory))
