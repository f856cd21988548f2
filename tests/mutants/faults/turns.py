"""Faults of the watchdog and of turns."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

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

# The queue

LAST_COMES_FIRST = Mutant(
    "who comes last is granted first",
    Edit(
        "turns/queue.py",
        "            queue.append(ticket)\n",
        "            queue.insert(1, ticket)\n",
    ),
)
NOBODY_GRANTED = Mutant(
    "who leaves the queue wakes nobody",
    Edit("turns/queue.py", "            head.on_grant()\n", "            pass\n"),
)
WAITS_FOR_ITSELF = Mutant(
    "who holds a session waits for itself",
    Edit(
        "turns/queue.py",
        "            if queue[0].owner == ticket.owner:\n",
        "            if False:\n",
    ),
)
GRANT_GIVEN_UP = Mutant(
    "a waiter whose time is up leaves although it was granted",
    Edit(
        "turns/queue.py",
        "            if ticket.granted or queue is None or ticket not in queue:\n",
        "            if queue is None or ticket not in queue:\n",
    ),
)
GHOST_IN_QUEUE = Mutant(
    "a waiter that was cancelled stays in the queue",
    Edit(
        "turns/queue.py",
        "            if ticket in queue:\n",
        "            if ticket is queue[0]:\n",
    ),
)
QUEUE_OF_PARENT = Mutant(
    "a forked child has its parent's queues",
    Edit("turns/queue.py", "        os.register_at_fork(after_in_child=self._reset)\n", ""),
)
EMPTY_QUEUES_STAY = Mutant(
    "a queue that nobody is in stays",
    Edit(
        "turns/queue.py",
        "                del self._queues[ticket.identity]\n                return\n",
        "                return\n",
    ),
)

# Taking

TAKEN_IN_VAIN = Mutant(
    "a session that came after its waiter gave up is kept",
    Edit(
        "turns/taking.py",
        "        if self._given_up:\n            self._give_back(held)\n            return None\n",
        "        if self._given_up:\n            return None\n",
    ),
)
GIVING_UP_UNSEEN = Mutant(
    "a waiter that gives up goes on waiting",
    Edit(
        "turns/taking.py",
        "        self._given_up = True\n        if self._wake is not None:\n"
        "            self._wake.set()\n",
        "        self._given_up = True\n",
    ),
)
UNDONE_BUT_KEPT = Mutant(
    "a take that an exception came in between keeps the session",
    Edit(
        "turns/taking.py",
        "        if held is not None and not isinstance(held, Holder):\n"
        "            give_back(backend, held)\n    finally:\n",
        "        pass\n    finally:\n",
    ),
)
UNDONE_BUT_QUEUED = Mutant(
    "a take that failed stays in the queue",
    Edit(
        "turns/taking.py",
        "            give_back(backend, held)\n    finally:\n        queues.leave(ticket)\n",
        "            give_back(backend, held)\n    finally:\n        pass\n",
    ),
)
BUSY_WITHOUT_AGE = Mutant(
    "the error of a busy session does not say how long it is held",
    Edit(
        "turns/taking.py",
        "            age=holder.age,\n",
        "            age=None,\n",
    ),
)

# A turn

NO_END = Mutant(
    "a turn that ends well writes no terminal entry",
    Edit(
        "turns/turn.py",
        "            writer.terminate(end(self.lease.turn_id, self._held()))\n",
        "            pass\n",
    ),
)
NOT_RELEASED = Mutant(
    "a turn that ends well keeps its lock",
    Edit(
        "turns/turn.py",
        "        return backend.release(held)\n",
        "        return True\n",
    ),
)
RELEASED_BEFORE_END = Mutant(
    "a turn releases before its terminal entry",
    Edit(
        "turns/turn.py",
        "        terminated = released = False\n        try:\n",
        "        terminated = released = False\n        try:\n            self._give_back()\n",
    ),
)
FAILS_SILENTLY = Mutant(
    "a turn that fails leaves no marker",
    Edit(
        "turns/turn.py",
        "            self._writer.fail(failure)\n            self.runtime.marked",
        "            self.runtime.marked",
    ),
)
FAILS_UNRELEASED = Mutant(
    "a turn whose marker fails keeps its session",
    Edit(
        "turns/turn.py",
        "            self.runtime.marker_owed(lease.label, lease.turn_id, problem)\n"
        "        finally:\n            self._release(failed=True, ended=True)\n",
        "            self.runtime.marker_owed(lease.label, lease.turn_id, problem)\n"
        "        else:\n            self._release(failed=True, ended=True)\n",
    ),
)
SECRETS_IN_MARKERS = Mutant(
    "a marker holds the secrets of the error",
    Edit(
        "turns/turn.py",
        "            self.runtime.redacted(error) or ERRORS.get(reason, reason),\n",
        "            error or ERRORS.get(reason, reason),\n",
    ),
)
APPEND_IS_NO_PROGRESS = Mutant(
    "an append is no progress",
    Edit("turns/turn.py", '        self.progress("append")\n', ""),
)
PROGRESS_UNCOUNTED = Mutant(
    "what the turn reports is no progress",
    Edit(
        "turns/turn.py",
        "        lease.progressed = self.runtime.clock.monotonic()\n        if what",
        "        if what",
    ),
)
CONTENT_IS_NO_PROGRESS = Mutant(
    "content from a model does not move the call's deadline",
    Edit(
        "turns/turn.py",
        "        call.deadline = _deadline(now, limit)\n        self.runtime",
        "        self.runtime",
    ),
)
CALLS_STAY = Mutant(
    "a call that has ended is watched on",
    Edit("turns/turn.py", "        self.lease.calls.pop(id(call), None)\n", "        pass\n"),
)
ANY_ITEM_IS_CONTENT = Mutant(
    "every item of a stream counts as content",
    Edit(
        "turns/watching.py",
        "        return self.is_content is None or self.is_content(item)\n",
        "        return True\n",
    ),
)
CALL_FAILED_AND_STAYS = Mutant(
    "a call that raised is watched on",
    Edit(
        "turns/watching.py",
        "        result = function()\n    except BaseException:\n        core.end_call(call)\n",
        "        result = function()\n    except BaseException:\n",
    ),
)
STREAM_GOES_ON = Mutant(
    "a thread's stream goes on after the revocation",
    Edit(
        "turns/watching.py",
        "        for item in stream:\n            core.check_revoked()\n",
        "        for item in stream:\n",
    ),
)
CHECK_ASKS_NOBODY = Mutant(
    "a check asks the process alone",
    Edit(
        "turns/turn.py",
        "        if not self.lease.backend.holds(self.lease.held):\n",
        "        if False:\n",
    ),
)
OWED_UNSETTLED = Mutant(
    "a turn begins without what its predecessors owe",
    Edit(
        "turns/turn.py",
        "        try:\n            self._writer.settle()\n        except Lost:\n            # Somebody",
        "        try:\n            return\n        except Lost:\n            # Somebody",
    ),
)
SETTLED_OR_NOTHING = Mutant(
    "a turn cannot begin while a marker cannot be written",
    Edit(
        "turns/turn.py",
        '            self.runtime.marker_owed(self.lease.label, next(filter(None, owed), "unknown"),'
        " error)\n",
        "            raise\n",
    ),
)
LOCK_WITHOUT_TURNS_MARKS = Mutant(
    "a lock without turns writes a marker",
    Edit(
        "turns/turn.py",
        "        if not lease.is_turn:\n",
        "        if False:\n",
    ),
)
LEAVES_TOO_SOON = Mutant(
    "a revoked block ends before its revoker is through",
    Edit(
        "turns/turn.py",
        "            self.runtime.clock.wait(self.lease.handed_over, HAND_OVER_TIMEOUT)\n",
        "            pass\n",
    ),
)
BLOCK_OF_ANOTHER = Mutant(
    "a context names a turn that was left",
    Edit("turns/scope.py", "        self.turn = None\n", "        pass\n"),
)
INTERRUPTED_UNENDED = Mutant(
    "a block whose end was interrupted is not ended",
    Edit(
        "turns/sync.py",
        "        except BaseException:\n            self._end_all_the_same()\n            raise\n",
        "        except BaseException:\n            raise\n",
    ),
)
REVOKED_PASSES_WELL = Mutant(
    "a revoked block that ends by itself raises nothing",
    Edit(
        "turns/sync.py",
        "            if error is None or passes_as_revoked(error):\n",
        "            if error is not None and passes_as_revoked(error):\n",
    ),
)
WORKERS_KEEP_INTERPRETER = Mutant(
    "a worker that hangs keeps the interpreter alive",
    Edit(
        "turns/workers.py",
        'name="turnlock-worker", daemon=True)',
        'name="turnlock-worker")',
    ),
)
CLEANED_WITHOUT_LOOK = Mutant(
    "a lock that is still there counts as removed",
    Edit("cleaning.py", "    if not backend.is_gone(record):\n", "    if False:\n"),
)
CLEANING_STOPS = Mutant(
    "one lock that cannot be removed stops the clean-up",
    Edit(
        "cleaning.py",
        '        logger.warning("stale lock left in place: path=%s: %s", record.path, error)\n'
        "        return record\n",
        "        raise\n",
    ),
)
CLEANED_SILENTLY = Mutant(
    "clean-up does not log what it removed",
    Edit(
        "cleaning.py",
        '    logger.warning(\n        "removed',
        '    logger.debug(\n        "removed',
    ),
)
CLEANS_LIVE = Mutant(
    "clean-up tries every lock",
    Edit(
        "store.py",
        "        return [self.clean(record, after) if record.stale else record for record in found]\n",
        "        return [self.clean(record, after) for record in found]\n",
    ),
)
CLOSE_LEAVES_TURNS = Mutant(
    "a store that is closed leaves its turns open",
    Edit("store.py", '        revoke_all(self._runtime, "cancelled")\n', "        pass\n"),
)
OTHER_STORES_UNSEEN = Mutant(
    "an operator does not reach another store of the process",
    Edit(
        "store.py",
        "        for runtime in Runtime.all():\n",
        "        for runtime in [self._runtime]:\n",
    ),
)
