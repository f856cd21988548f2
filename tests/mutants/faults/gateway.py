"""Faults of the gateway."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

BUSY_IS_UPSTREAM = Mutant(
    "a busy session is reported as a model's failure",
    Edit(
        "gateway/errors.py",
        "                return _busy(error)\n",
        '                return Refusal(502, "upstream_error", str(error))\n',
    ),
)
NO_TURN_LIMIT = Mutant(
    "a turn of the gateway has no limit of its own",
    Edit(
        "gateway/answering.py",
        "    hold = min(limits.turn, limits.max_hold)\n",
        "    hold = 1e6\n",
    ),
)
BODY_UNLIMITED = Mutant(
    "a client may take as long as it likes to send its request",
    Edit(
        "gateway/body.py",
        "        async with asyncio.timeout(patience):\n",
        "        async with asyncio.timeout(None):\n",
    ),
)

# Limits of a model

_WATCHED = "first=limits.first_token, idle=limits.idle)"
FIRST_UNLIMITED = Mutant(
    "a model may take as long as it likes to its first word",
    Edit("gateway/answering.py", _WATCHED, "first=1e6, idle=limits.idle)"),
)
IDLE_UNLIMITED = Mutant(
    "a model that has begun may take as long as it likes",
    Edit("gateway/answering.py", _WATCHED, "first=limits.first_token, idle=1e6)"),
)
ONE_LIMIT_FOR_ALL = Mutant(
    "the limit between two words is that of the first word too",
    Edit("gateway/answering.py", _WATCHED, "first=limits.idle, idle=limits.idle)"),
)
ALONE_UNLIMITED = Mutant(
    "a call without a session has no limits",
    Edit(
        "gateway/answering.py",
        "            self._exchange.cut(self._passed)\n",
        "            pass\n",
    ),
)

LATE_IS_OVER = Mutant(
    "a timer that fires late ends its call like any other",
    Edit(
        "gateway/answering.py",
        "        if late > GAP:\n",
        "        if False:\n",
    ),
)
LATE_AGAIN_AND_AGAIN = Mutant(
    "a timer that is late is given a tick on top each time",
    Edit(
        "gateway/answering.py",
        "            self._on_top = 0.0\n",
        "",
    ),
)

# What clients are told

ERROR_IS_REPLY = Mutant(
    "what a model's failure says is stored as its reply",
    Edit(
        "gateway/answering.py",
        "            text, finished = await _collect(items, exchange, model, turn.progress)\n",
        "            try:\n"
        "                text, finished = await _collect(items, exchange, model, turn.progress)\n"
        "            except ModelError as error:\n"
        '                text, finished = str(error), Finished("stop", None, model.model)\n',
    ),
)
ERROR_UNSAID = Mutant(
    "a stream whose turn failed just ends",
    Edit(
        "gateway/sse.py", "            return event(outcome.body())\n", '            return b""\n'
    ),
)
CLIENT_STAYS = Mutant(
    "a turn goes on when its client has left",
    Edit("gateway/exchange.py", "        self.cancel(ClientLeft())\n", ""),
)
