"""Faults of the commands."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

GROUP_LEFT = Mutant(
    "a command whose session is taken is left running",
    Edit("cli/process_group.py", "            self._end()\n", "            pass\n"),
)
BUSY_IS_FAILURE = Mutant(
    "a busy session has no exit code of its own",
    Edit("cli/exits.py", "    (SessionBusy, ExitCode.BUSY),\n", ""),
)
NOT_ASKED = Mutant(
    "the gateway is not asked what its turns are at",
    Edit(
        "cli/knowledge.py",
        "in _live(by_path, gateway).items():",
        "in _live(by_path, None).items():",
    ),
)
RELEASE_QUEUES = Mutant(
    "a release waits for the session as a turn does",
    Edit(
        "cli/release.py",
        "        settlement = store.supersede(",
        "        with store.turn(held.target.store_key, wait=None):\n            pass\n"
        "        settlement = store.supersede(",
    ),
)
