"""Faults of the watchdog, and of what a revocation does."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

# The rule, and the thread

STALL_UNSEEN = Mutant(
    "the stall limit is not watched",
    Edit("turns/watchdog.py", "    if lease.max_stall is not None:\n", "    if False:\n"),
)
CALLS_UNSEEN = Mutant(
    "the limits of calls are not watched",
    Edit(
        "turns/watchdog.py",
        '        earliest = min(earliest, (call.deadline, "model-limit"))\n',
        "        pass\n",
    ),
)
LATE_BY_A_MOMENT = Mutant(
    "a lease is not overdue at its very deadline",
    Edit(
        "turns/watchdog.py",
        "        if deadline <= now and lease.state in WRITABLE:\n",
        "        if deadline < now and lease.state in WRITABLE:\n",
    ),
)
LATEST_LIMIT = Mutant(
    "of the hold limit and the stall limit the later one counts",
    Edit(
        "turns/watchdog.py",
        "        earliest = min(earliest, (lease.progressed + lease.max_stall",
        "        earliest = max(earliest, (lease.progressed + lease.max_stall",
    ),
)
GAP_GIVEN_TO_HOLD_ALONE = Mutant(
    "the time that the process stood still counts against stalls and calls",
    Edit(
        "turns/watchdog.py",
        "    lease.progressed += gap\n    for call in list(lease.calls.values()):\n"
        "        call.deadline += gap\n",
        "",
    ),
)
GAP_AGAIN_AND_AGAIN = Mutant(
    "a machine that is always late never sees a deadline pass",
    Edit(
        "turns/watchdog.py",
        "    if lease.given_back == 0.0:\n        gap += slept\n",
        "    gap += slept\n",
    ),
)
NO_NUDGE = Mutant(
    "an earlier deadline does not wake the watchdog",
    Edit("turns/watchdog.py", "            self._nudge.set()\n", "            pass\n"),
)
UNWATCHED_CALL = Mutant(
    "a call that begins does not tell the watchdog",
    Edit(
        "turns/turn.py",
        "        self.lease.calls[id(call)] = call\n"
        "        self.runtime.watchdog.expect(call.deadline)\n",
        "        self.lease.calls[id(call)] = call\n",
    ),
)
KEEPS_INTERPRETER = Mutant(
    "the watchdog's thread keeps the interpreter alive",
    Edit(
        "turns/watchdog.py", 'name="turnlock-watchdog", daemon=True)', 'name="turnlock-watchdog")'
    ),
)
DIES_OF_A_LOOK = Mutant(
    "the watchdog ends with the first look that fails",
    Edit(
        "turns/watchdog.py",
        '                logger.exception("the watchdog\'s look failed; it goes on")\n',
        "                return\n",
    ),
)
NEVER_VERIFIED = Mutant(
    "no lease is verified against the disk",
    Edit(
        "turns/watchdog.py",
        "        if leases and verify:\n            self._verify(leases)\n",
        "",
    ),
)
ONE_AFTER_ANOTHER = Mutant(
    "the watchdog revokes by itself, one after another",
    Edit(
        "turns/runtime.py",
        "            submit_or_run(lambda: carry_out(self, due.lease, deadline=due.deadline))\n",
        "            carry_out(self, due.lease, deadline=due.deadline)\n",
    ),
)
CLEARED_TOO_LATE = Mutant(
    "a lease that comes while the watchdog goes to sleep is slept through",
    Edit(
        "turns/watchdog.py",
        "        self._nudge.clear()\n"
        "        # Announced before the deadlines are read: a lease that comes later sees it, and"
        " nudges.\n"
        "        self._wakes_at = math.inf\n"
        "        earliest = min((deadline_of(lease)[0] for lease in self._writable()), default=None)\n",
        "        self._wakes_at = math.inf\n"
        "        earliest = min((deadline_of(lease)[0] for lease in self._writable()), default=None)\n"
        "        self._nudge.clear()\n",
    ),
)
CHILD_HAS_NO_WATCHDOG = Mutant(
    "a forked child takes its parent's watchdog for its own",
    Edit("turns/runtime.py", "        self.watchdog.reset()\n", ""),
)
ORPHANS_HOLD = Mutant(
    "a task whose loop was closed holds its session for ever",
    Edit("turns/runtime.py", "        if lease.is_orphan():\n", "        if False:\n"),
)
NO_FINAL_STATE = Mutant(
    "a revoked lease may still be released",
    Edit(
        "turns/lease.py",
        "    State.REVOKED: frozenset({State.FORKED}),\n",
        "    State.REVOKED: frozenset({State.RELEASED, State.FORKED}),\n",
    ),
)
ANY_MOVE = Mutant(
    "a lease goes to any state from any other",
    Edit(
        "turns/lease.py",
        "            if state not in TRANSITIONS[self.state]:\n                return False\n",
        "",
    ),
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
)
MARKER_FIRST = Mutant(
    "a session has its marker before its holder is fenced",
    Edit(
        "turns/revoking.py",
        "    reason = lease.reason\n    request = TakeRequest(None",
        "    reason = lease.reason\n"
        "    Writer(lease.backend, lease.held, runtime.clock, label=lease.label,"
        " turn_id=lease.turn_id, on_marked=print).fail(_failure(lease, 0.0))\n"
        "    request = TakeRequest(None",
    ),
)
NO_MARKER = Mutant(
    "a revoked turn gets no marker",
    Edit(
        "turns/revoking.py",
        "    try:\n        writer.settle()\n    except Lost:\n        logger.warning",
        "    try:\n        pass\n    except Lost:\n        logger.warning",
    ),
)
REASON_DROPPED = Mutant(
    "the marker of a revoked turn says that its process died",
    Edit(
        "turns/revoking.py",
        "        details={details.turn_id: details} if details else None,\n",
        "        details=None,\n",
    ),
)
HOLDER_UNTOLD = Mutant(
    "a revoked holder is not told",
    Edit(
        "turns/revoking.py",
        "    runtime.now_zombie(lease, stack)\n    lease.tell_holder()\n",
        "    runtime.now_zombie(lease, stack)\n    lease.ticket.owner = None\n",
    ),
)
FENCED_ONCE = Mutant(
    "a fence that cannot be put up is not tried again",
    Edit(
        "turns/revoking.py",
        "        workers.submit(lambda: _fence_again(runtime, lease, stack, deadline))\n",
        "",
    ),
)
UNFENCED_UNTOLD = Mutant(
    "a holder that cannot be fenced yet is not told",
    Edit(
        "turns/revoking.py",
        "        lease.tell_holder()\n        workers.submit",
        "        workers.submit",
    ),
)
MARKER_FOR_EVER = Mutant(
    "the queue waits for a marker without end",
    Edit(
        "turns/revoking.py",
        "    if not runtime.clock.wait(done, patience):\n",
        "    if not runtime.clock.wait(done, None):\n",
    ),
)
REVOKER_NEVER_RELEASES = Mutant(
    "a revoker does not release",
    Edit(
        "turns/revoking.py",
        "    try:\n        give_back(held)\n    except _STORAGE",
        "    try:\n        pass\n    except _STORAGE",
    ),
)
OWED_RELEASED = Mutant(
    "a claim that owes a marker is removed without it",
    Edit(
        "turns/revoking.py",
        "        give_back = backend.leave_owing if owed else backend.release\n",
        "        give_back = backend.release\n",
    ),
)
NEVER_THROUGH = Mutant(
    "who waits for a revocation is not told that it is through",
    Edit(
        "turns/revoking.py",
        "    if lease.handed_over is not None:\n        lease.handed_over.set()\n",
        "",
    ),
)
LOST_UNEXPLAINED = Mutant(
    "a turn that another process revoked does not learn why",
    Edit(
        "turns/revoking.py",
        "    return seen.reason if seen is not None else None\n",
        "    return None\n",
    ),
)
STILL_HELD_WHEN_LOST = Mutant(
    "a lease that lost its claim counts as held until its block ends",
    Edit("turns/runtime.py", "            if lost:\n", "            if False:\n"),
)
ZOMBIES_FORGOTTEN = Mutant(
    "revoked holders that still run are not counted",
    Edit(
        "turns/runtime.py",
        "                self._zombies[id(lease)] = (lease, stack)\n",
        "                pass\n",
    ),
)
ZOMBIES_FOR_EVER = Mutant(
    "revoked holders that have ended are counted as running",
    Edit(
        "turns/runtime.py",
        "            zombie = self._zombies.pop(id(lease), None)\n",
        "            zombie = self._zombies.get(id(lease))\n",
    ),
)
