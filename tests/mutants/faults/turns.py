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
    caught_by="tests/turns/test_small_promises.py::TestLimits::test_asking_is_no_progress",
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
    Edit("turns/writer.py", "            if self._has_ended():\n", "            if False:\n"),
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
        "            block.take()\n            self._blocks[threading.current_thread()] = block\n",
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
        "        workers.submit(run)\n    except RuntimeError as error:\n",
        "        loop.run_in_executor(None, run)\n    except RuntimeError as error:\n",
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
        "turns/writer.py", "        if self._closed:\n            raise Ended\n", "        pass\n"
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
        "            if turn.turn_id and not tail.shows(turn.turn_id, turn.opening)\n",
        "            if turn.turn_id\n",
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
        "        call = Call(what, _deadline(now, limit), end)\n",
        "        self.lease.taken = now\n        call = Call(what, _deadline(now, limit), end)\n",
    ),
)
LAST_COMES_FIRST = Mutant(
    "who comes last is granted first",
    Edit(
        "turns/queue.py",
        "            queue.append(ticket)\n",
        "            queue.insert(1, ticket)\n",
    ),
    caught_by="tests/conformance/test_turns.py::TestInAThread::test_threads_get_their_turn_in_the_order_in_which_they_came",
)
NOBODY_GRANTED = Mutant(
    "who leaves the queue wakes nobody",
    Edit("turns/queue.py", "    if head.on_grant() is True:\n", "    if False:\n"),
    caught_by="tests/conformance/test_turns.py::TestInAThread::test_threads_get_their_turn_in_the_order_in_which_they_came",
)
WAITS_FOR_ITSELF = Mutant(
    "who holds a session waits for itself",
    Edit(
        "turns/queue.py",
        "            if queue[0].owner == ticket.owner:\n",
        "            if False:\n",
    ),
    caught_by="tests/conformance/test_turns.py::TestInAThread::test_a_second_take_by_the_same_thread_is_refused_at_once",
)
GRANT_GIVEN_UP = Mutant(
    "a waiter whose time is up leaves although it was granted",
    Edit(
        "turns/queue.py",
        "            if ticket.granted or queue is None or ticket not in queue:\n",
        "            if queue is None or ticket not in queue:\n",
    ),
    caught_by="tests/turns/test_small_promises.py::TestTheQueue::test_who_was_granted_cannot_give_up_any_more",
)
GHOST_IN_QUEUE = Mutant(
    "a waiter that was cancelled stays in the queue",
    Edit(
        "turns/queue.py",
        "            if ticket in queue:\n",
        "            if ticket is queue[0]:\n",
    ),
    caught_by="tests/conformance/test_turns.py::TestInATask::test_a_waiter_that_is_cancelled_leaves_no_ghost",
)
QUEUE_OF_PARENT = Mutant(
    "a forked child has its parent's queues",
    Edit("turns/queue.py", "        os.register_at_fork(after_in_child=self._reset)\n", ""),
    caught_by="tests/traps/test_processes.py::test_a_child_has_the_store_and_none_of_its_turns",
)
EMPTY_QUEUES_STAY = Mutant(
    "a queue that nobody is in stays",
    Edit(
        "turns/queue.py",
        "                del self._queues[ticket.identity]\n                return None\n",
        "                return None\n",
    ),
    caught_by="tests/failures/test_b_teardown.py::test_b10_a_thousand_sessions_of_one_process_leave_no_lease",
)
TAKEN_IN_VAIN = Mutant(
    "a session that came after its waiter gave up is kept",
    Edit(
        "turns/taking.py",
        "        if self._given_up:\n            self._give_back(held)\n            return None\n",
        "        if self._given_up:\n            return None\n",
    ),
    caught_by="tests/files/test_protocol.py::test_a_waiter_that_gives_up_as_it_gets_the_session_pays_what_it_took_over",
)
GIVING_UP_UNSEEN = Mutant(
    "a waiter that gives up goes on waiting",
    Edit(
        "turns/taking.py",
        "        self._given_up = True\n        if self._wake is not None:\n"
        "            self._wake.set()\n",
        "        self._given_up = True\n",
    ),
    caught_by="tests/turns/test_small_promises.py::TestTheQueue::test_a_task_that_gives_up_leaves_the_line_while_another_process_holds",
)
UNDONE_BUT_KEPT = Mutant(
    "a take that an exception came in between keeps the session",
    Edit(
        "turns/taking.py",
        "        if held is not None and not isinstance(held, Holder):\n"
        "            give_back(backend, held)\n    finally:\n",
        "        pass\n    finally:\n",
    ),
    caught_by="tests/traps/test_interruptions.py::test_an_exception_at_any_point_of_a_turn_leaves_its_session_free",
)
UNDONE_BUT_QUEUED = Mutant(
    "a take that failed stays in the queue",
    Edit(
        "turns/taking.py",
        "            give_back(backend, held)\n    finally:\n        queues.leave(ticket)\n",
        "            give_back(backend, held)\n    finally:\n        pass\n",
    ),
    caught_by="tests/traps/test_interruptions.py::TestInTheQueue::test_ctrl_c_in_the_queue_leaves_no_ghost",
)
BUSY_WITHOUT_AGE = Mutant(
    "the error of a busy session does not say how long it is held",
    Edit(
        "turns/taking.py",
        "            age=holder.age,\n",
        "            age=None,\n",
    ),
    caught_by="tests/turns/test_small_promises.py::TestTheQueue::test_a_busy_session_says_who_holds_it_since_when_and_for_how_long",
)
NO_END = Mutant(
    "a turn that ends well writes no terminal entry",
    Edit(
        "turns/writer.py",
        "            if self.opened:\n                self._write([{",
        "            if False:\n                self._write([{",
    ),
    caught_by="tests/conformance/test_turns.py::TestInAThread::test_a_turn_is_opened_and_ended_once",
)
NOT_RELEASED = Mutant(
    "a turn that ends well keeps its lock",
    Edit(
        "turns/turn.py",
        "        return backend.release(held)\n",
        "        return True\n",
    ),
    caught_by="tests/files/test_claim_file.py::test_release_leaves_nothing_but_the_transcript",
)
RELEASED_BEFORE_END = Mutant(
    "a turn releases before its terminal entry",
    Edit(
        "turns/turn.py",
        "        terminated = released = False\n        try:\n",
        "        terminated = released = False\n        try:\n            self._give_back()\n",
    ),
    caught_by="tests/conformance/test_turns.py::TestInAThread::test_a_turn_is_opened_and_ended_once",
)
FAILS_SILENTLY = Mutant(
    "a turn that fails leaves no marker",
    Edit(
        "turns/turn.py",
        "            self._writer.fail(failure)\n            self.runtime.marked",
        "            self.runtime.marked",
    ),
    caught_by="tests/conformance/test_turns.py::TestInAThread::test_a_turn_that_raises_leaves_a_marker",
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
    caught_by="tests/files/test_faults.py::test_a_full_disk_is_a_typed_error_and_the_session_goes_on",
)
SECRETS_IN_MARKERS = Mutant(
    "a marker holds the secrets of the error",
    Edit(
        "turns/turn.py",
        "            self.runtime.redacted(error) or ERRORS.get(reason, reason),\n",
        "            error or ERRORS.get(reason, reason),\n",
    ),
    caught_by="tests/gateway/test_gateway_failures.py::test_an_upstream_status_is_told_and_a_key_is_not",
)
APPEND_IS_NO_PROGRESS = Mutant(
    "an append is no progress",
    Edit("turns/turn.py", '        self.progress("append")\n', ""),
    caught_by="tests/turns/test_small_promises.py::TestLimits::test_an_append_is_progress",
)
PROGRESS_UNCOUNTED = Mutant(
    "what the turn reports is no progress",
    Edit(
        "turns/turn.py",
        "        self.lease.progressed = self.runtime.clock.monotonic()\n        if what",
        "        if what",
    ),
    caught_by="tests/conformance/test_turns.py::TestInATask::test_a_stall_is_no_hang_while_there_is_progress",
)
CONTENT_IS_NO_PROGRESS = Mutant(
    "content from a model does not move the call's deadline",
    Edit(
        "turns/turn.py",
        "        call.deadline = _deadline(now, limit)\n        self.runtime",
        "        self.runtime",
    ),
    caught_by="tests/gateway/test_gateway_failures.py::test_thinking_is_progress_that_only_the_whole_turn_bounds",
)
CALLS_STAY = Mutant(
    "a call that has ended is watched on",
    Edit("turns/turn.py", "        self.lease.calls.pop(id(call), None)\n", "        pass\n"),
    caught_by="tests/turns/test_small_promises.py::TestLimits::test_a_function_that_failed_has_no_limit_any_more",
)
ANY_ITEM_IS_CONTENT = Mutant(
    "every item of a stream counts as content",
    Edit(
        "turns/watching.py",
        "        return self.is_content is None or self.is_content(item)\n",
        "        return True\n",
    ),
    caught_by="tests/conformance/test_turns.py::TestWatch::test_what_is_no_content_is_no_progress",
)
CALL_FAILED_AND_STAYS = Mutant(
    "a call that raised is watched on",
    Edit(
        "turns/watching.py",
        "        result = function()\n    except BaseException:\n        core.end_call(call)\n",
        "        result = function()\n    except BaseException:\n",
    ),
    caught_by="tests/turns/test_small_promises.py::TestLimits::test_a_function_that_failed_has_no_limit_any_more",
)
STREAM_GOES_ON = Mutant(
    "a thread's stream goes on after the revocation",
    Edit(
        "turns/watching.py",
        "            item = next(self._items)\n            self._core.check_revoked()\n",
        "            item = next(self._items)\n",
    ),
    caught_by="tests/turns/test_small_promises.py::TestLimits::test_a_stream_gives_nothing_once_the_session_is_taken",
)
CHECK_ASKS_NOBODY = Mutant(
    "a check asks the process alone",
    Edit(
        "turns/turn.py",
        "        if not self.lease.backend.holds(self.lease.held):\n",
        "        if False:\n",
    ),
    caught_by="tests/turns/test_small_promises.py::TestLimits::test_a_check_asks_the_storage",
)
OWED_UNSETTLED = Mutant(
    "a turn begins without what its predecessors owe",
    Edit(
        "turns/turn.py",
        "        try:\n            self._writer.settle()\n        except Lost:\n            # Somebody",
        "        try:\n            return\n        except Lost:\n            # Somebody",
    ),
    caught_by="tests/turns/test_small_promises.py::TestTheBeginning::test_what_predecessors_owe_is_there_before_the_block_begins",
)
SETTLED_OR_NOTHING = Mutant(
    "a turn cannot begin while a marker cannot be written",
    Edit(
        "turns/turn.py",
        '            self.runtime.marker_owed(self.lease.label, next(filter(None, owed), "unknown"),'
        " error)\n",
        "            raise\n",
    ),
    caught_by="tests/turns/test_small_promises.py::TestTheBeginning::test_a_full_disk_does_not_keep_a_turn_from_beginning",
)
LOCK_WITHOUT_TURNS_MARKS = Mutant(
    "a lock without turns writes a marker",
    Edit(
        "turns/turn.py",
        "        if not lease.is_turn:\n",
        "        if False:\n",
    ),
    caught_by="tests/turns/test_small_promises.py::TestTheBeginning::test_a_lock_without_turns_writes_nothing_whatever_its_block_raises",
)
LEAVES_TOO_SOON = Mutant(
    "a revoked block ends before its revoker is through",
    Edit(
        "turns/turn.py",
        "            self.runtime.clock.wait(self.lease.handed_over, HAND_OVER_TIMEOUT)\n",
        "            pass\n",
    ),
    caught_by="tests/turns/test_small_promises.py::test_who_catches_a_revocation_finds_the_marker",
)
BLOCK_OF_ANOTHER = Mutant(
    "a context names a turn that was left",
    Edit("turns/scope.py", "        self.turn = None\n", "        pass\n"),
    caught_by="tests/traps/test_contexts.py::test_a_task_that_outlives_its_turn_is_in_none",
)
INTERRUPTED_UNENDED = Mutant(
    "a block whose end was interrupted is not ended",
    Edit(
        "turns/sync.py",
        "        except BaseException:\n            self._end_all_the_same()\n            raise\n",
        "        except BaseException:\n            raise\n",
    ),
    caught_by="tests/traps/test_interruptions.py::test_an_exception_at_any_point_of_a_turn_leaves_its_session_free",
)
REVOKED_PASSES_WELL = Mutant(
    "a revoked block that ends by itself raises nothing",
    Edit(
        "turns/sync.py",
        "            if error is None or passes_as_revoked(error) or _is_cancellation(error):\n",
        "            if error is not None and passes_as_revoked(error):\n",
    ),
    caught_by="tests/conformance/test_turns.py::TestInAThread::test_revoking_fences_marks_and_frees",
)
WORKERS_KEEP_INTERPRETER = Mutant(
    "a worker that hangs keeps the interpreter alive",
    Edit(
        "turns/workers.py",
        'name="turnlock-worker", daemon=True)',
        'name="turnlock-worker")',
    ),
    caught_by="tests/traps/test_processes.py::test_a_turn_that_is_open_at_the_interpreters_end_holds_it_up_by_nothing",
)
CLEANED_WITHOUT_LOOK = Mutant(
    "a lock that is still there counts as removed",
    Edit(
        "cleaning.py",
        "        if settlement.released and _is_gone(backend, record):\n",
        "        if True:\n",
    ),
    caught_by="tests/files/test_faults.py::test_a_marker_that_clean_up_cannot_write_is_written_by_the_next_turn",
)
CLEANING_STOPS = Mutant(
    "one lock that cannot be removed stops the clean-up",
    Edit(
        "cleaning.py",
        '        logger.warning("stale lock left in place: path=%s: %s", record.path, error)\n'
        "        return Cleaned(record, why_of(error))\n",
        "        raise\n",
    ),
    Edit("cleaning.py", "        return Cleaned(record, repr(error))\n", "        raise\n"),
    caught_by="tests/turns/test_small_promises.py::test_one_lock_that_cannot_be_removed_stops_no_clean_up_and_both_are_logged",
)
CLEANED_SILENTLY = Mutant(
    "clean-up does not log what it removed",
    Edit(
        "cleaning.py",
        '    logger.warning(\n        "removed',
        '    logger.debug(\n        "removed',
    ),
    caught_by="tests/turns/test_small_promises.py::test_one_lock_that_cannot_be_removed_stops_no_clean_up_and_both_are_logged",
)
CLOSE_LEAVES_TURNS = Mutant(
    "a store that is closed leaves its turns open",
    Edit("store.py", '        revoke_all(self._runtime, "cancelled")\n', "        pass\n"),
    caught_by="tests/conformance/test_turns.py::TestInAThread::test_closing_the_store_ends_open_turns_with_a_marker",
)
OTHER_STORES_UNSEEN = Mutant(
    "an operator does not reach another store of the process",
    Edit(
        "store.py",
        "        for runtime in Runtime.all():\n",
        "        for runtime in [self._runtime]:\n",
    ),
    caught_by="tests/files/test_claim_file.py::test_a_holder_of_another_store_of_this_process_is_told_at_once",
)
REASON_UNKNOWN = Mutant(
    "a holder is told that it was superseded before it is known why",
    Edit(
        "turns/revoking.py",
        "    # Read before the lease is moved: from then on its holder may be told the reason.\n",
        '    lease.move(State.REVOKING, reason="superseded")\n',
    ),
    caught_by="tests/turns/test_revoking.py::"
    "test_a_holder_is_never_told_a_reason_before_it_is_known",
)
OWED_IN_SILENCE = Mutant(
    "where there is no room for a claim, nobody hears that a marker is owed",
    Edit(
        "turns/revoking.py",
        "        runtime.marker_owed(lease.label, lease.turn_id, freed)\n",
        "        del freed\n",
    ),
    caught_by="tests/files/test_faults.py::test_a_hung_turn_is_revoked_on_a_full_disk_too",
)
