"""Faults of turns in tasks: cancellation, what runs on the loop, who learns the outcome."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

NO_UNCANCEL = Mutant(
    "a cancellation of ours is not taken back",
    Edit(
        "turns/aio.py",
        "            only_us = task.uncancel() <= self._cancelling\n",
        "            only_us = task.cancelling() <= self._cancelling + 1\n",
    ),
    caught_by="tests/conformance/test_turns.py::TestInATask::test_the_watchdog_cancels_a_hung_task",
)
TAKES_ALL_BACK = Mutant(
    "somebody else's cancellation is taken for ours",
    Edit("turns/aio.py", "            by_us = by_us and only_us\n", ""),
    caught_by="tests/conformance/test_turns.py::TestInATask::test_an_outer_cancellation_wins_over_a_revocation",
)
TASK_UNTOLD = Mutant(
    "the task of a revoked turn is not cancelled",
    Edit(
        "turns/aio.py",
        '            self._task.cancel(f"turn revoked: {self.core.lease.reason}")\n',
        "            pass\n",
    ),
    caught_by="tests/traps/test_loops.py::TestEveryLoop::test_a_hung_task_is_cancelled_and_that_is_taken_back",
)
CANCELS_AFTER_THE_END = Mutant(
    "a task is cancelled for a turn whose block it has left",
    Edit(
        "turns/aio.py",
        "        task, self._task = self._task, None\n        if self._scope",
        "        task = self._task\n        if self._scope",
    ),
    caught_by="tests/turns/test_tasks.py::TestOnASlowDisk::test_a_turn_whose_end_hangs_ends_without_it",
)
REVOKED_BEFORE_THE_BLOCK = Mutant(
    "a turn that was revoked before its block began is not told",
    Edit(
        "turns/aio.py",
        "            self._loop.call_soon(self._cancel_task)\n",
        "            pass\n",
    ),
    caught_by="tests/turns/test_tasks.py::test_a_turn_that_is_revoked_before_its_task_runs_again_is_told",
)
OUTCOME_UNKNOWN = Mutant(
    "a cancelled append does not wait for its outcome",
    Edit(
        "turns/aio.py",
        "        while not future.done() and not hopeless():\n",
        "        while False:\n",
    ),
    caught_by="tests/files/test_faults.py::test_a_begun_append_is_known_before_a_cancellation_passes_on",
)
NO_SHIELD = Mutant(
    "a cancellation passes into an append that has begun",
    Edit(
        "turns/aio.py",
        "        return await asyncio.shield(future)\n",
        "        return await future\n",
    ),
    caught_by="tests/files/test_faults.py::test_a_begun_append_is_known_before_a_cancellation_passes_on",
)
CANCELLED_TWICE = Mutant(
    "a second cancellation passes before the outcome is known",
    Edit(
        "turns/aio.py",
        "            except asyncio.CancelledError:\n                continue\n",
        "            except asyncio.CancelledError:\n                break\n",
    ),
    caught_by="tests/turns/test_tasks.py::TestOnASlowDisk::test_an_append_is_known_before_any_of_many_cancellations_passes_on",
)
HOPELESS_IS_AWAITED = Mutant(
    "a revoked task waits for an append that hangs",
    Edit(
        "turns/aio.py",
        "lambda: self._core.lease.is_revoked)\n",
        "lambda: False)\n",
    ),
    caught_by="tests/turns/test_tasks.py::TestOnASlowDisk::test_a_revoked_task_does_not_wait_for_an_append_that_hangs",
)
ON_THE_LOOP = Mutant(
    "file work runs on the event loop",
    Edit(
        "turns/aio.py",
        "        workers.submit(run)\n    except RuntimeError as error:\n",
        "        run()\n    except RuntimeError as error:\n",
    ),
    caught_by="tests/files/test_faults.py::test_a_begun_append_is_known_before_a_cancellation_passes_on",
)
GIVEN_UP_BUT_QUEUED = Mutant(
    "a task that is cancelled in the queue stays there",
    Edit(
        "turns/aio.py",
        "        if self._may_begin():\n            queues.leave(self._ticket)\n        try:\n",
        "        try:\n",
    ),
    caught_by="tests/conformance/test_turns.py::TestInATask::test_a_waiter_that_is_cancelled_leaves_no_ghost",
)
CAME_TOO_LATE = Mutant(
    "a session that comes to a task just cancelled is kept",
    Edit(
        "turns/aio.py",
        "            # The task was cancelled in the moment in which it got the session.\n"
        "            submit_or_run(core.discard)\n",
        "            pass\n",
    ),
    caught_by="tests/turns/test_tasks.py::test_a_session_that_comes_to_a_task_that_was_just_cancelled_goes_on",
)
CAME_AND_CANCELLED = Mutant(
    "a session that came before a cancellation is kept",
    Edit(
        "turns/aio.py",
        "            submit_or_run(self._future.result().discard)\n",
        "            pass\n",
    ),
    caught_by="tests/traps/test_loops.py::TestEveryLoop::test_a_cancellation_in_the_moment_of_the_grant_leaves_no_turn",
)
CLOSED_LOOP_IS_GRANTED = Mutant(
    "a task whose loop was closed is granted its session",
    Edit(
        "turns/aio.py",
        "            # Nobody will ever run the task again.\n            return True\n",
        "            return False\n",
    ),
    caught_by="tests/traps/test_loops.py::TestLoopsThatAreGone::test_a_session_that_comes_when_the_loop_is_closed_goes_on_to_the_next",
)
NO_WAIT_LIMIT = Mutant(
    "a task waits in the queue without end",
    Edit(
        "turns/aio.py",
        "                timer = self._loop.call_later(self._want.wait, self._on_timeout)\n",
        "                pass\n",
    ),
    caught_by="tests/conformance/test_turns.py::TestInATask::test_a_wait_limit_is_kept",
)
TAKEN_TWICE = Mutant(
    "a grant that is told twice is taken twice",
    Edit(
        "turns/aio.py",
        "        if not self._may_begin():\n            return\n        core: TurnCore",
        "        core: TurnCore",
    ),
    caught_by="tests/turns/test_tasks.py::test_a_grant_that_is_told_twice_is_one",
)
FAILED_TAKE_STAYS = Mutant(
    "a task's take that fails stays in the queue",
    Edit(
        "turns/aio.py",
        "            undo(self._runtime, self._backend, self._ticket, held)\n",
        "            pass\n",
    ),
    caught_by="tests/turns/test_tasks.py::test_a_task_whose_take_failed_is_in_nobodys_way",
)
END_WAITS_FOR_DISK = Mutant(
    "a turn whose end hangs on a disk hangs with it",
    Edit(
        "turns/aio.py",
        "            await learn_outcome(_first(future, hung), lambda:",
        "            await learn_outcome(_first(future), lambda:",
    ),
    caught_by="tests/turns/test_tasks.py::TestOnASlowDisk::test_a_turn_whose_end_hangs_ends_without_it",
)
LOST_END_IS_WELL = Mutant(
    "a turn whose end was revoked ends well",
    Edit(
        "turns/aio.py",
        "            await on_worker(self.core.leave, or_here=True)\n            raise self.core.revoked_error()\n",
        "            await on_worker(self.core.leave, or_here=True)\n",
    ),
    caught_by="tests/turns/test_tasks.py::TestOnASlowDisk::test_a_turn_whose_end_hangs_ends_without_it",
)
STREAM_LEFT_OPEN = Mutant(
    "the stream of a cancelled call is left open",
    Edit(
        "turns/watching.py",
        "            self._core.end_call(self._call)\n            await close_stream(self._source)\n",
        "            self._core.end_call(self._call)\n",
    ),
    caught_by="tests/turns/test_tasks.py::test_a_stream_that_is_left_is_closed_at_once",
)
HEADERS_WITHOUT_LIMIT = Mutant(
    "a call that fails before its stream is watched on",
    Edit(
        "turns/watching.py",
        "            result = await self._source\n        except BaseException:\n"
        "            self._core.end_call(self._call)\n",
        "            result = await self._source\n        except BaseException:\n",
    ),
    caught_by="tests/turns/test_tasks.py::test_a_call_that_has_ended_however_has_no_limit_any_more",
)
CANCELLED_IS_REVOKED = Mutant(
    "a task that somebody else cancelled is told that its turn was revoked",
    Edit("turns/aio.py", "        elif by_us:\n            by_us = False\n", ""),
    caught_by="tests/turns/test_tasks.py::"
    "test_a_task_that_was_cancelled_before_its_turn_was_revoked_stays_cancelled",
)
EPOCH_IN_ADVANCE = Mutant(
    "an awaited epoch is not durable",
    Edit(
        "turns/aio.py",
        "        epoch._make_durable = lambda: self._run(self._core.open)\n",
        "        epoch._make_durable = lambda: self._run(lambda: self._core.epoch)\n",
    ),
    caught_by="tests/turns/test_tasks.py::test_an_awaited_epoch_is_durable",
)
