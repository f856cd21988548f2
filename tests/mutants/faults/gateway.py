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
