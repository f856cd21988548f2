"""Faults of the watchdog and of turns."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant, appended

from .lock import NO_FENCE

# The watchdog

NO_WATCHDOG = Mutant(
    "the watchdog finds nothing overdue",
    Edit(
        "turns/watchdog.py",
        "        if deadline <= now and lease.state in WRITABLE:\n",
        "        if deadline < 0:\n",
    ),
)
UNWATCHED = Mutant(
    "a watchdog whose thread cannot be started counts as started",
    Edit(
        "turns/watchdog.py",
        "            if threading.main_thread().is_alive():\n",
        "            if not threading.main_thread().is_alive():\n",
    ),
)
NO_GAPS = Mutant(
    "time in which the process stood still counts",
    Edit("turns/watchdog.py", "        if late > GAP:\n", "        if False:\n"),
)
CHECKING_IS_PROGRESS = Mutant(
    "asking whether the lease is held counts as progress",
    Edit(
        "turns/turn.py",
        "        self._check_writable()\n        if not self.lease.backend.holds",
        '        self._check_writable()\n        self.progress("")\n'
        "        if not self.lease.backend.holds",
    ),
)

# Turns

NO_HAND_OVER = Mutant(
    "a revoked holder keeps its place in the queue until it ends",
    Edit("turns/revoking.py", "    queues.leave(lease.ticket)\n", ""),
)
TORN_DOWN_WRITES = Mutant(
    "neither the process nor the file refuses a revoked holder",
    *NO_FENCE.edits,
    Edit(
        "turns/lease.py",
        "        if self.state not in WRITABLE:\n            raise self.revoked_error(now)\n",
        "        pass\n",
    ),
)
CANCELLED_UNRELEASED = Mutant(
    "a cancelled block is left without a release",
    Edit(
        "turns/aio.py",
        "        return lambda: core.fail(reason, text)\n",
        "        return lambda: core.fail(reason, text) if reason != 'cancelled' else None\n",
    ),
)
ONE_SLOT = Mutant(
    "whoever tries a shared lock is written down as its holder",
    Edit(
        "lock.py",
        "            block.take()\n            self._blocks[threading.get_ident()] = block\n",
        "            self._blocks[0] = block\n            block.take()\n",
    ),
    Edit(
        "lock.py",
        "        block = self._left()\n        assert isinstance(block, OpenTurn)\n",
        "        block = self._blocks[0]\n        assert isinstance(block, OpenTurn)\n",
    ),
)
NEVER_FORGOTTEN = Mutant(
    "a process keeps the leases that it released",
    Edit(
        "turns/runtime.py",
        '        """The holder has released its lease."""\n'
        "        self._held.pop(id(lease), None)\n",
        '        """The holder has released its lease."""\n',
    ),
)

# Threads and tasks

JOINED_WORKERS = Mutant(
    "workers are a pool, whose threads the interpreter joins at its end",
    appended(
        "turns/workers.py",
        """
        from concurrent.futures import ThreadPoolExecutor

        _pool = ThreadPoolExecutor(64)
        Workers.submit = lambda self, job: _pool.submit(job)
        """,
    ),
)
DEFAULT_POOL = Mutant(
    "the work of tasks is done by the loop's default pool",
    Edit(
        "turns/aio.py",
        "    workers.submit(run)\n    return future\n",
        "    loop.run_in_executor(None, run)\n    return future\n",
    ),
)
ON_THE_LOOP = Mutant(
    "the work of tasks is done on their loop",
    Edit(
        "turns/aio.py",
        "    workers.submit(run)\n    return future\n",
        "    run()\n    return future\n",
    ),
)
NOT_UNCANCELLED = Mutant(
    "the cancellation of a revoked task is not taken back",
    Edit("turns/aio.py", "task.uncancel() <= self._cancelling", "task.cancelling() <= 1"),
)
SCOPE_STAYS = Mutant(
    "a thread whose block is over is still in its turn",
    Edit(
        "turns/sync.py",
        "        self._leave_scope()\n        if self.core",
        "        if self.core",
    ),
)
COOPERATIVE_ONLY = Mutant(
    "the watchdog revokes only who can be cancelled",
    Edit(
        "turns/watchdog.py",
        "        if deadline <= now and lease.state in WRITABLE:\n",
        "        if deadline <= now and lease.state in WRITABLE and lease.on_revoked:\n",
    ),
)

# The queue

PRUNED_WHILE_AWAITED = Mutant(
    "who leaves a queue removes it, whoever waits in it",
    Edit(
        "turns/queue.py",
        "            if not queue:\n                del self._queues[ticket.identity]\n",
        "            if self._queues.pop(ticket.identity) is not None:\n",
    ),
)
NEVER_PRUNED = Mutant(
    "a queue in which nobody is any more is kept",
    Edit(
        "turns/queue.py",
        "            if not queue:\n                del self._queues[ticket.identity]\n",
        "            if not queue:\n",
    ),
)
OWNER_UNKNOWN = Mutant(
    "the queue does not know who holds already",
    Edit(
        "turns/queue.py",
        "            if queue[0].owner == ticket.owner:\n",
        "            if False:\n",
    ),
)
NO_RESULTS = Mutant(
    "the tool calls of a turn that failed get no result",
    Edit(
        "turns/writer.py",
        '    return [{"id": new_id()} | cut_off_result(call) for call in calls]\n',
        "    return []\n",
    ),
)
UNLISTED = Mutant(
    "a holder that was revoked and runs on is not listed",
    Edit(
        "turns/runtime.py",
        "                self._zombies[id(lease)] = (lease, stack)\n",
        "                pass\n",
    ),
)
MARKED_BY_CONTEXT = Mutant(
    "a turn's marker goes to whatever turn is around",
    Edit(
        "turns/turn.py",
        "            self._writer.fail(failure)\n",
        "            from .scope import current_turn\n\n"
        "            around = current_turn()\n"
        "            (around._core if around else self)._writer.fail(failure)\n",
    ),
)
OUTER_IS_CURRENT = Mutant(
    "the current turn is the one that was entered first",
    Edit(
        "turns/scope.py",
        "        self._token = _current.set(self)\n",
        "        self._token = _current.set(self.outer or self)\n",
    ),
)
ONLY_LOGS = Mutant(
    "what is overdue is logged, and nothing is done",
    Edit(
        "turns/runtime.py",
        "            submit_or_run(lambda: carry_out(self, due.lease, deadline=due.deadline))\n",
        '            logger.warning("turn %s is over its limit", due.lease.turn_id)\n',
    ),
)
ONE_BY_ONE = Mutant(
    "the watchdog's thread carries out each revocation by itself",
    Edit(
        "turns/runtime.py",
        "            submit_or_run(lambda: carry_out(self, due.lease, deadline=due.deadline))\n",
        "            carry_out(self, due.lease, deadline=due.deadline)\n",
    ),
)
WATCHDOG_ON_LOOP = Mutant(
    "the watchdog is a timer of the event loop",
    appended(
        "turns/watchdog.py",
        """
        def _start_on_loop(self):
            import asyncio

            def look():
                self._look(self._clock.monotonic(), verify=False)
                loop.call_later(0.01, look)

            loop = asyncio.get_running_loop()
            loop.call_later(0.01, look)

        Watchdog._start = _start_on_loop
        """,
    ),
)
ALL_GIVEN_BACK = Mutant(
    "every time that the watchdog is late all of the time it slept is given back",
    Edit("turns/watchdog.py", "    if lease.given_back == 0.0:\n", "    if True:\n"),
)
DONE_UNFENCED = Mutant(
    "a revocation whose fence failed goes on as if it stood",
    Edit(
        "turns/revoking.py",
        "        workers.submit(lambda: _fence_again(runtime, lease, stack, deadline))\n",
        "        _hand_over(runtime, lease, stack, deadline)\n",
    ),
)
QUEUE_DROPPED = Mutant(
    "with a revoked turn its queue is dropped",
    Edit(
        "turns/revoking.py",
        "    queues.leave(lease.ticket)\n",
        "    queues._queues.pop(lease.ticket.identity, None)\n",
    ),
)
WRITES_ON = Mutant(
    "a turn that was released writes on",
    *TORN_DOWN_WRITES.edits,
    Edit(
        "turns/writer.py",
        "            if self._has_ended():\n                return\n",
        "",
    ),
)
CHARGED_FOR_WAITING = Mutant(
    "a turn's limits count from when it asked for its session",
    Edit("turns/taking.py", "        taken=now,\n", "        taken=started,\n"),
)
NAMELESS = Mutant(
    "a turn has no name before it writes",
    Edit(
        "turns/taking.py",
        "        turn_id = self.turn_id if self.is_turn else None\n",
        "        turn_id = None\n",
    ),
)
ENDED_IS_OWED = Mutant(
    "whoever lost its lock is owed a marker, also when it had ended",
    Edit(
        "turns/writer.py",
        "            if tail.turn(turn_id) is None and turn_id not in known:\n",
        "            if turn_id not in known:\n",
    ),
)
BUDGET_UNHEARD = Mutant(
    "what a call declares for itself is not heard",
    Edit(
        "turns/watching.py",
        '            self.first if first is None else check_limit("first", first),\n',
        "            self.first,\n",
    ),
)
EACH_CALL_ANEW = Mutant(
    "with each call a turn's time begins anew",
    Edit(
        "turns/turn.py",
        "        call = Call(what, _deadline(now, limit))\n",
        "        self.lease.taken = now\n        call = Call(what, _deadline(now, limit))\n",
    ),
)
