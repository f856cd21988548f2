"""A Celery task that answers in a session. Needs: turnlock[models] celery

celery --app celery_worker worker
"""

import os

import openai
from celery import Celery

import turnlock

store = turnlock.open_store(os.environ["STATE_DIR"])
client = turnlock.guard(openai.OpenAI(), first=float(os.environ.get("FIRST", "60")))
app = Celery("worker", broker=os.environ["BROKER_URL"])
MODEL = os.environ.get("MODEL", "gpt-4.1-mini")


# A task whose worker died is run again: an entry's id keeps it from being stored twice.
@app.task(bind=True, acks_late=True, autoretry_for=(turnlock.SessionBusy,), max_retries=None)
def answer(self, user: str, text: str) -> str:
    with store.turn(turnlock.session_key("main", user), wait=10) as turn:
        turn.append(turnlock.user(text) | {"id": self.request.id})
        completion = client.chat.completions.create(model=MODEL, messages=turn.messages())
        reply = completion.choices[0].message.content or ""
        turn.append(turnlock.assistant(reply) | {"id": f"{self.request.id}.reply"})
        return reply
