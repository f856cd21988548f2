"""Faults of the gateway."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

BUSY_IS_UPSTREAM = Mutant(
    "a busy session is reported as a model's failure",
    Edit(
        "gateway/errors.py",
        "                return _busy(error)\n",
        '                return Refusal("upstream_error", str(error))\n',
    ),
)
MESSAGE_LAST = Mutant(
    "the user's message is stored with the reply",
    Edit(
        "gateway/answering.py",
        "        exchange.question = question = await _store(turn, planned, exchange)\n",
        "",
    ),
    Edit(
        "gateway/answering.py",
        "        exchange.phase = Phase.FINISHING\n",
        "        exchange.question = question = await _store(turn, planned, exchange)\n"
        "        exchange.phase = Phase.FINISHING\n",
    ),
)
DELIVERED_FIRST = Mutant(
    "a reply is delivered before it is stored",
    Edit(
        "gateway/answering.py",
        "        exchange.phase = Phase.FINISHING\n",
        "        exchange.phase = Phase.FINISHING\n        exchange._end(_reply(text, finished))\n",
    ),
)
UNTIED = Mutant(
    "a reply does not say what it answers",
    Edit(
        "gateway/answering.py",
        '        await turn.append({"id": reply_id(question), **_entry(text, finished, model)})\n',
        "        await turn.append(_entry(text, finished, model))\n",
    ),
)
EMPTY_STORED = Mutant(
    "an empty reply is a reply",
    Edit("gateway/answering.py", "    if not text.strip():\n", "    if False:\n"),
)
STALE_VIEW = Mutant(
    "the history is read before the session is had",
    Edit(
        "gateway/answering.py",
        "        entries = await on_worker(lambda: list(store.read(key)))\n",
        "",
    ),
    Edit(
        "gateway/answering.py",
        "    async with block as turn:\n",
        "    entries = await on_worker(lambda: list(store.read(key)))\n"
        "    async with block as turn:\n",
    ),
)
RETRIES_UNKNOWN = Mutant(
    "the SDK's retries are new messages",
    Edit("gateway/conversation.py", "    elif repeated.retries > 0:\n", "    elif False:\n"),
)
