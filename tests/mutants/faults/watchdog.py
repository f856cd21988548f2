"""Faults of the watchdog, and of what a revocation does."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

# The rule, and the thread

STALL_UNSEEN = Mutant(
    "the stall limit is not watched",
    Edit("turns/watchdog.py", "    if lease.max_stall is not None:\n", "    if False:\n"),
    caught_by="tests/turns/test_watchdog.py::TestTheRule::test_a_stall_counts_from_the_last_progress",
)
CALLS_UNSEEN = Mutant(
    "the limits of calls are not watched",
    Edit(
        "turns/watchdog.py",
        '        earliest = min(earliest, (call.deadline, "model-limit"))\n',
        "        pass\n",
    ),
    caught_by="tests/turns/test_watchdog.py::TestTheRule::test_a_call_counts_from_its_own_deadline",
)
LATE_BY_A_MOMENT = Mutant(
    "a lease is not overdue at its very deadline",
    Edit(
        "turns/watchdog.py",
        "        if deadline <= now and lease.state in WRITABLE:\n",
        "        if deadline < now and lease.state in WRITABLE:\n",
    ),
    caught_by="tests/turns/test_watchdog.py::TestTheRule::test_a_lease_is_overdue_from_its_hold_limit_on",
)
LATEST_LIMIT = Mutant(
    "of the hold limit and the stall limit the later one counts",
    Edit(
        "turns/watchdog.py",
        "        earliest = min(earliest, (lease.progressed + lease.max_stall",
        "        earliest = max(earliest, (lease.progressed + lease.max_stall",
    ),
    caught_by="tests/turns/test_watchdog.py::TestTheRule::test_a_stall_counts_from_the_last_progress",
)
GAP_GIVEN_TO_HOLD_ALONE = Mutant(
    "the time that the process stood still counts against stalls and calls",
    Edit(
        "turns/watchdog.py",
        "    lease.progressed += gap\n    for call in list(lease.calls.values()):\n"
        "        call.deadline += gap\n",
        "",
    ),
    caught_by="tests/turns/test_watchdog.py::TestGivingBack::test_a_gap_moves_every_deadline",
)
GAP_AGAIN_AND_AGAIN = Mutant(
    "a machine that is always late never sees a deadline pass",
    Edit(
        "turns/watchdog.py",
        "    if lease.given_back == 0.0:\n        gap += slept\n",
        "    gap += slept\n",
    ),
    caught_by="tests/turns/test_watchdog.py::TestGivingBack::test_what_lay_before_the_gap_is_given_once",
)
NO_NUDGE = Mutant(
    "an earlier deadline does not wake the watchdog",
    Edit("turns/watchdog.py", "            self._nudge.set()\n", "            pass\n"),
    caught_by="tests/turns/test_waking.py::test_a_lease_with_an_earlier_deadline_wakes_it",
)
UNWATCHED_CALL = Mutant(
    "a call that begins does not tell the watchdog",
    Edit(
        "turns/turn.py",
        "        self.lease.calls[id(call)] = call\n"
        "        self.runtime.watchdog.expect(call.deadline)\n",
        "        self.lease.calls[id(call)] = call\n",
    ),
    caught_by="tests/turns/test_waking.py::test_a_call_with_an_earlier_deadline_wakes_it",
)
KEEPS_INTERPRETER = Mutant(
    "the watchdog's thread keeps the interpreter alive",
    Edit(
        "turns/watchdog.py", 'name="turnlock-watchdog", daemon=True)', 'name="turnlock-watchdog")'
    ),
    caught_by="tests/traps/test_processes.py::test_a_turn_that_is_open_at_the_interpreters_end_holds_it_up_by_nothing",
)
DIES_OF_A_LOOK = Mutant(
    "the watchdog ends with the first look that fails",
    Edit(
        "turns/watchdog.py",
        '            logger.exception("the watchdog\'s look failed; it goes on")\n',
        "            raise SystemExit\n",
    ),
    caught_by="tests/turns/test_waking.py::test_a_look_that_fails_is_not_the_last_one",
)
NEVER_VERIFIED = Mutant(
    "no lease is verified against the disk",
    Edit(
        "turns/watchdog.py",
        "        if leases and verify:\n            self._verify(leases)\n",
        "",
    ),
    caught_by="tests/traps/test_loops.py::TestLoopsThatAreGone::test_a_turn_that_is_open_when_its_loop_is_closed_is_ended",
)
ONE_AFTER_ANOTHER = Mutant(
    "the watchdog revokes by itself, one after another",
    Edit(
        "turns/runtime.py",
        "            submit_or_run(lambda: carry_out(self, due.lease, deadline=due.deadline))\n",
        "            carry_out(self, due.lease, deadline=due.deadline)\n",
    ),
    caught_by="tests/turns/test_watchdog.py::TestTheThread::test_one_lease_that_cannot_be_revoked_keeps_no_other_waiting",
)
CLEARED_TOO_LATE = Mutant(
    "a lease that comes while the watchdog goes to sleep is slept through",
    Edit(
        "turns/watchdog.py",
        "        self._nudge.clear()\n"
        "        # Announced before the deadlines are read: a lease that comes later sees it, and"
        " nudges.\n"
        "        # Only if it is due before the next tick: thousands that get on would leave no"
        " rest.\n"
        "        self._wakes_at = verify_at\n"
        "        earliest = min((deadline_of(lease)[0] for lease in self._writable()), default=None)\n",
        "        self._wakes_at = verify_at\n"
        "        earliest = min((deadline_of(lease)[0] for lease in self._writable()), default=None)\n"
        "        self._nudge.clear()\n",
    ),
    caught_by="tests/turns/test_waking.py::test_a_lease_that_comes_while_it_goes_to_sleep_wakes_it",
)
CHILD_HAS_NO_WATCHDOG = Mutant(
    "a forked child takes its parent's watchdog for its own",
    Edit("turns/runtime.py", "        self.watchdog.reset()\n", ""),
    caught_by="tests/turns/test_waking.py::test_a_forked_child_has_a_watchdog_of_its_own",
)
ORPHANS_HOLD = Mutant(
    "a task whose loop was closed holds its session for ever",
    Edit(
        "turns/runtime.py",
        '        if lease.is_orphan():\n            revoke(self, lease, "cancelled")\n',
        '        if False:\n            revoke(self, lease, "cancelled")\n',
    ),
    caught_by="tests/traps/test_loops.py::TestLoopsThatAreGone::test_a_turn_that_is_open_when_its_loop_is_closed_is_ended",
)
NO_FINAL_STATE = Mutant(
    "a revoked lease may still be released",
    Edit(
        "turns/lease.py",
        "    State.REVOKED: frozenset({State.FORKED}),\n",
        "    State.REVOKED: frozenset({State.RELEASED, State.FORKED}),\n",
    ),
    caught_by="tests/turns/test_found_by_simulation.py::test_a_turn_that_wrote_nothing_is_told_that_another_process_took_its_session",
)
ANY_MOVE = Mutant(
    "a lease goes to any state from any other",
    Edit(
        "turns/lease.py",
        "            if state not in TRANSITIONS[self.state]:\n                return False\n",
        "",
    ),
    caught_by="tests/turns/test_found_by_simulation.py::test_a_turn_that_wrote_nothing_is_told_that_another_process_took_its_session",
)

# Revocation

MARKER_AFTER_HAND_OVER = Mutant(
    "a session is handed over before its marker is written",
    Edit(
        "turns/revoking.py",
        "    if ours is not None:\n        settle_and_release(\n            runtime, lease.backend",
        "    queues.leave(lease.ticket)\n"
        "    if ours is not None:\n"
        "        lease.backend.release(ours)\n"
        "        settle_and_release(\n            runtime, lease.backend",
    ),
    caught_by="tests/conformance/test_turns.py::TestInAThread::test_revoking_fences_marks_and_frees",
)
MARKER_BEFORE_FENCE = Mutant(
    "a session has its marker before its holder is fenced",
    Edit(
        "turns/revoking.py",
        "    reason = lease.reason\n    request = TakeRequest(None",
        "    reason = lease.reason\n"
        "    Writer(lease.backend, lease.held, runtime.clock, label=lease.label,"
        " turn_id=lease.turn_id, on_marked=print).fail(_failure(lease, 0.0))\n"
        "    request = TakeRequest(None",
    ),
    caught_by="tests/conformance/test_turns.py::TestInAThread::test_revoking_fences_marks_and_frees",
)
NO_MARKER = Mutant(
    "a revoked turn gets no marker",
    Edit(
        "turns/revoking.py",
        "        writer.settle()\n        markers = ",
        "        markers = ",
    ),
    caught_by="tests/conformance/test_turns.py::TestInAThread::test_revoking_fences_marks_and_frees",
)
REASON_DROPPED = Mutant(
    "the marker of a revoked turn says that its process died",
    Edit(
        "turns/revoking.py",
        "        details={details.turn_id: details} if details else None,\n",
        "        details=None,\n",
    ),
    caught_by="tests/turns/test_revoking.py::test_the_marker_says_what_the_turn_was_at",
)
HOLDER_UNTOLD = Mutant(
    "a revoked holder is not told",
    Edit(
        "turns/revoking.py",
        "    runtime.now_zombie(lease, stack)\n    lease.tell_holder()\n",
        "    runtime.now_zombie(lease, stack)\n    lease.ticket.owner = None\n",
    ),
    caught_by="tests/conformance/test_turns.py::TestInATask::test_the_watchdog_cancels_a_hung_task",
)
FENCED_ONCE = Mutant(
    "a fence that cannot be put up is not tried again",
    Edit(
        "turns/revoking.py",
        "            _try_again(runtime, lease, stack, deadline)\n",
        "            pass\n",
    ),
    caught_by="tests/turns/test_revoking.py::test_a_holder_that_cannot_be_fenced_yet_is_told_and_fenced_when_it_can_be",
)
UNFENCED_UNTOLD = Mutant(
    "a holder that cannot be fenced yet is not told",
    Edit(
        "turns/revoking.py",
        "    lease.revoked_at = runtime.clock.monotonic()\n    lease.tell_holder()\n",
        "    lease.revoked_at = runtime.clock.monotonic()\n",
    ),
    caught_by="tests/turns/test_revoking.py::test_a_holder_that_cannot_be_fenced_yet_is_told_and_fenced_when_it_can_be",
)
MARKER_FOR_EVER = Mutant(
    "the queue waits for a marker without end",
    Edit(
        "turns/revoking.py",
        "    runtime.clock.wait(done, patience)\n",
        "    runtime.clock.wait(done, None)\n",
    ),
    caught_by="tests/files/test_faults.py::test_a_disk_that_hangs_in_fsync_does_not_stop_the_session",
)
REVOKER_NEVER_RELEASES = Mutant(
    "a revoker does not release",
    Edit(
        "turns/revoking.py",
        "        released = give_back(held) is True\n",
        "        released = False\n",
    ),
    caught_by="tests/conformance/test_turns.py::TestInAThread::test_revoking_fences_marks_and_frees",
)
OWED_RELEASED = Mutant(
    "a claim that owes a marker is removed without it",
    Edit(
        "turns/revoking.py",
        "        give_back = backend.leave_owing if owed else backend.release\n",
        "        give_back = backend.release\n",
    ),
    caught_by="tests/files/test_faults.py::test_a_marker_that_clean_up_cannot_write_is_written_by_the_next_turn",
)
NEVER_THROUGH = Mutant(
    "who waits for a revocation is not told that it is through",
    Edit(
        "turns/revoking.py",
        "        if lease.handed_over is not None:\n            lease.handed_over.set()\n",
        "        pass\n",
    ),
    caught_by="tests/turns/test_revoking.py::test_a_revoked_block_ends_when_its_revoker_is_through",
)
LOST_UNEXPLAINED = Mutant(
    "a turn that another process revoked does not learn why",
    Edit(
        "turns/revoking.py",
        "    return seen.reason if seen is not None else None\n",
        "    return None\n",
    ),
    caught_by="tests/processes/test_holders.py::test_revocation_by_another_process_reaches_the_holder",
)
STILL_HELD_WHEN_LOST = Mutant(
    "a lease that lost its claim counts as held until its block ends",
    Edit(
        "turns/runtime.py",
        "            if lease.held in lost:\n",
        "            if False:\n",
    ),
    caught_by="tests/cli/test_cli_exec.py::test_a_lock_file_removed_by_hand_ends_the_command",
)
ZOMBIES_FORGOTTEN = Mutant(
    "revoked holders that still run are not counted",
    Edit(
        "turns/runtime.py",
        "                self._zombies[id(lease)] = (lease, stack)\n",
        "                pass\n",
    ),
    caught_by="tests/conformance/test_turns.py::TestInATask::test_a_task_that_ignores_cancellation_is_a_zombie_and_nobody_waits",
)
ZOMBIES_FOR_EVER = Mutant(
    "revoked holders that have ended are counted as running",
    Edit(
        "turns/runtime.py",
        "            zombie = self._zombies.pop(id(lease), None)\n",
        "            zombie = self._zombies.get(id(lease))\n",
    ),
    caught_by="tests/conformance/test_turns.py::TestInATask::test_a_task_that_ignores_cancellation_is_a_zombie_and_nobody_waits",
)

# The thread's end

NEVER_ENDS = Mutant(
    "the watchdog's thread outlives its store",
    Edit(
        "turns/watchdog.py",
        "                if idle > self._linger and self._ends():\n",
        "                if False:\n",
    ),
    caught_by="tests/turns/test_waking.py::test_a_store_that_is_closed_leaves_no_thread",
)
ENDS_UNSEEN = Mutant(
    "the watchdog's thread says that it is gone after its last look",
    Edit(
        "turns/watchdog.py",
        "            self._started = False\n            ends = False\n",
        "            ends = False\n",
    ),
    caught_by="tests/turns/test_waking.py::test_a_lease_that_comes_as_the_thread_ends_has_another",
)
COLLECTS_WHILE_IT_READS = Mutant(
    "garbage is collected while the stack of a holder is read",
    Edit("turns/frames.py", "        gc.disable()\n", "        pass\n"),
    caught_by="tests/turns/test_frames.py::"
    "test_nothing_is_collected_while_the_interpreter_is_asked",
)
