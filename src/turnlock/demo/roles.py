"""The processes of the demo: ``python -m turnlock.demo.roles ROLE FACTS``, FACTS in JSON.

Each is what a service would be: it opens the store, runs a turn, asks the model over HTTP with an
ordinary blocking client that has no time-out.
"""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import LeaseRevoked
from ..store import open_store
from ..transcript.entries import assistant, user
from .naive import naive_holder, naive_waiter
from .reports import tell, tell_event

if TYPE_CHECKING:
    from ..practice import Statistics

# What an endpoint that goes away does to a client that waits for it.
_CONNECTION_LOST = (OSError, http.client.HTTPException)
FALLBACK = "Sorry, the model did not answer."


def model() -> None:
    """The practice model; tells its url, and every request that it took."""
    from ..practice import PracticeServer

    async def serve() -> None:
        async with PracticeServer() as server:
            tell("listening", url=server.url)
            for number in itertools.count(1):
                await server.wait_for(partial(_has_taken, number))
                tell("request", number=number)

    asyncio.run(serve())


def _has_taken(number: int, seen: Statistics) -> bool:
    return seen.requests >= number


def holder(*, state: str, session: str, url: str, text: str, max_hold: float) -> None:
    """A turn whose model call hangs. When the call fails at last, it wants to append a reply."""
    with open_store(state) as store:
        store.subscribe(tell_event)
        try:
            with store.turn(session, max_hold=max_hold) as turn:
                turn.append(user(text))
                history = turn.messages()
                tell("asking")
                try:
                    reply = turn.watch(lambda: ask(url, history, mode="hang"))
                except _CONNECTION_LOST as error:
                    tell("woke", error=f"{type(error).__name__}: {error}")
                    reply = FALLBACK
                turn.append(assistant(reply))
                tell("written")
        except LeaseRevoked as error:
            tell("refused", error=str(error), reason=error.reason)


def waiter(*, state: str, session: str, url: str, text: str, wait: float) -> None:
    """The next message of the same session."""
    with open_store(state) as store:
        store.subscribe(tell_event)
        tell("asks")
        with store.turn(session, wait=wait) as turn:
            turn.append(user(text))
            reply = ask(url, turn.messages())
            turn.append(assistant(reply))
            tell("answered", reply=reply)


def ask(url: str, messages: object, *, mode: str | None = None) -> str:
    """A chat completion, by a client that waits for ever."""
    where = urlsplit(url)
    connection = http.client.HTTPConnection(str(where.hostname), where.port)
    headers = {"Content-Type": "application/json"}
    if mode is not None:
        headers["X-Practice-Mode"] = mode
    body = json.dumps({"model": "practice", "messages": messages})
    connection.request("POST", f"{where.path}/chat/completions", body, headers)
    answer = json.loads(connection.getresponse().read())
    return str(answer["choices"][0]["message"]["content"])


ROLES: Mapping[str, Callable[..., None]] = {
    "model": model,
    "holder": holder,
    "waiter": waiter,
    "naive-holder": lambda **facts: naive_holder(ask=ask, **facts),
    "naive-waiter": naive_waiter,
}


def main(role: str, facts: Mapping[str, Any]) -> None:
    """Play a role; the process ends with it, or with the demo."""
    threading.Thread(target=_end_with_the_demo, name="demo-leash", daemon=True).start()
    ROLES[role](**facts)


def _end_with_the_demo() -> None:
    # The demo holds the other end of this pipe. However it ends, the kernel closes it.
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
