"""A loop over OpenAI's client, in threads. Needs: turnlock[models]"""

import os

import openai

import turnlock

store = turnlock.open_store(os.environ["STATE_DIR"])
client = turnlock.guard(openai.OpenAI(), first=60, idle=30)
MODEL = os.environ.get("MODEL", "gpt-4.1-mini")


def answer(user: str, text: str) -> str:
    with store.turn(turnlock.session_key("main", user)) as turn:
        turn.append(turnlock.user(text))
        completion = client.chat.completions.create(model=MODEL, messages=turn.messages())
        reply = completion.choices[0].message.content or ""
        turn.append(turnlock.assistant(reply))
        return reply
