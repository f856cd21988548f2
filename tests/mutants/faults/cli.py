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
OUTPUT_CUT = Mutant(
    "the output of a command is cut where its reader is slow",
    Edit(
        "cli/copying.py",
        "            while by_itself and thread.is_alive():\n",
        "            while False:\n",
    ),
    caught_by="tests/cli/test_cli_exec.py::test_a_slow_reader_gets_all_output_of_the_command",
)
SIGNALS_STAY_BLOCKED = Mutant(
    "signals that a parent blocked stay blocked",
    Edit("unblocked.py", "signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)", "pass"),
    caught_by="tests/cli/test_cli_exec.py::test_signals_that_were_blocked_for_it_arrive",
)
ONE_STOPS_ALL = Mutant(
    "a session that cannot be pruned stops all that come after it",
    Edit(
        "cli/each.py",
        "            done.append(Failed(session, str(error)))\n",
        "            raise\n",
    ),
    caught_by="tests/cli/test_cli_prune.py::test_one_that_cannot_be_taken_stops_no_other_and_is_said",
)
UNLISTED_UNSAID = Mutant(
    "a directory that cannot be listed is passed over in silence",
    Edit("cli/unlisted.py", "ExitCode.USAGE if self.directories else code", "code"),
    caught_by="tests/cli/test_cli_sessions.py::"
    "test_a_directory_that_cannot_be_listed_is_told_beside_what_can",
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
