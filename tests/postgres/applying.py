"""Which failures of families A to D can happen to sessions in a database, and what tries them.

The catalogue and its verdicts, with the faults that each test bites on, are those of the failure
suite (tests/failures, docs/failures.md), which runs on files. Here is what becomes of its modes on
PostgreSQL: the very same test runs with a database in place of the state directory, a test of its
own makes the trigger happen in the way in which it can there, or there is nothing to trigger.
"""

from __future__ import annotations

from collections.abc import Iterator

# Tests of the failure suite that run here as they are: (module, function).
SAME = (
    ("a_ownership", "test_a5_containers_on_one_directory_respect_each_other"),
    ("a_ownership", "test_a15_a_clock_that_is_wrong_robs_nobody"),
    ("a_ownership", "test_a16_a_turn_is_not_charged_for_the_time_its_process_slept"),
    ("a_ownership", "test_a16_a_connection_that_died_in_its_sleep_is_noticed"),
    ("a_ownership", "test_a20_a_forked_child_keeps_no_lock_of_its_dead_parent"),
    ("a_ownership", "test_a20_a_fork_behind_pythons_back_keeps_it_until_its_limit"),
    ("a_ownership", "test_a21_a_forked_child_releases_nothing_of_its_parent"),
    ("a_ownership", "test_a27_past_its_own_limit_a_stopped_holder_is_replaced_once"),
    ("a_ownership", "test_a30_of_many_that_start_at_once_none_is_lost"),
    ("b_teardown", "test_b1_work_that_ignores_its_abort_does_not_keep_the_session"),
    ("b_teardown", "test_b3_maintenance_that_blocks_is_cut_off_and_the_turn_goes_in"),
    ("b_teardown", "test_b4_a_second_try_that_hangs_is_within_the_same_limit"),
    ("b_teardown", "test_b5_a_turn_that_only_says_that_it_is_there_makes_no_progress"),
    ("b_teardown", "test_b6_after_a_cancellation_at_any_await_the_next_message_gets_in"),
    ("c_watchdogs", "test_c8_a_blocked_event_loop_is_seen_and_named_by_its_own_process"),
    ("c_watchdogs", "test_c9_progress_that_lies_unread_while_a_process_is_stopped_is_progress"),
    ("c_watchdogs", "test_c13_tries_that_all_hang_share_one_limit"),
    ("f_transcripts", "test_f3_turns_of_processes_that_are_stopped_and_freed_never_mix"),
    ("f_transcripts", "test_f10_what_a_deadline_cut_off_is_on_record_and_what_was_done"),
    ("f_transcripts", "test_f15_a_failure_inside_of_another_sessions_turn_is_noted_in_its_own"),
    ("f_transcripts", "test_f19_each_entry_is_in_the_file_of_its_session"),
)

_KILLED = (
    "postgres/test_leases.py::test_a_gateway_that_was_killed_loses_its_session_within_the_lease"
)
# Mode to a test of the same claim, below tests/.
OWN = {
    "A2": _KILLED,
    "A6": _KILLED,
    "A8": "postgres/test_fence.py::test_a_stopped_gateway_keeps_nobody_waiting",
    "A9": "postgres/test_answers.py::test_a_server_that_answers_nothing_is_given_up_in_time",
    "A12": "postgres/test_leases.py::"
    "test_of_many_gateways_that_find_a_dead_one_each_turn_is_marked_by_one",
    "A13": "conformance/test_backend.py::test_release_twice_touches_nothing_of_the_successor",
    "A14": "postgres/test_fence.py::test_a_gateway_that_was_stopped_writes_nothing_when_it_goes_on",
    "A23": "postgres/test_doctor.py::test_a_turn_over_its_limit_is_a_warning_and_left_alone",
    "A25": "postgres/test_waiting.py::test_a_waiter_that_hears_nothing_looks_by_itself",
    "B7": "postgres/test_waiting.py::test_a_waiter_that_gives_up_leaves_no_place_behind",
    "B9": "postgres/test_leases.py::test_who_dies_as_it_reclaims_passes_the_debt_on",
    # At the end of the lease, which is its term: nobody can know of the death before.
    "B12": _KILLED,
    "C3": "postgres/test_fence.py::test_a_gateway_that_was_stopped_writes_nothing_when_it_goes_on",
    "C4": "postgres/test_waiting.py::test_a_holder_hears_that_its_session_was_taken",
}

_NO_PID = "no lease is judged by a process's number or name"
_ROW = "a claim is columns of a row: it is there whole, or not at all"
_NO_FILES = "there is no lock file, and no file system"
# Mode to why there is nothing that could be triggered.
NOTHING = {
    "A3": _NO_PID,
    "A4": _NO_PID,
    "A7": _NO_PID,
    "A10": _ROW,
    "A11": _ROW,
    "A17": "a session has one row, by its key; it has no paths",
    "A18": _NO_FILES,
    "A19": _NO_FILES,
    "A22": _NO_FILES,
    "B11": "the lock alone is of files",
}

_ABOVE = "above the storage, the same code for every store; tried on files"
_D = {f"D{number}": _ABOVE for number in range(1, 15)}
# Mode to why it is not tried on a database, though it might be.
UNTRIED = {
    "A1": _ABOVE,
    "A24": _ABOVE,
    "A26": "waits for an inbox, as on files",
    "A28": _ABOVE,
    "A29": "waits for an inbox, as on files",
    "A31": "what a take reads is counted on files only",
    "B2": "its test looks into files",
    "B8": "its test looks into files",
    "B10": "a thousand sessions are some thousands of commits: a minute for the same code",
    "C1": _ABOVE,
    "C2": "its test makes files that cannot be removed",
    "C5": _ABOVE,
    "C6": _ABOVE,
    "C7": _ABOVE,
    "C10": _ABOVE,
    "C11": _ABOVE,
    "C12": _ABOVE,
    "C14": _ABOVE,
    **_D,
}


def mode_of(test: str) -> str:
    return test.removeprefix("test_").partition("_")[0].upper()


def fates(mode: str) -> list[str]:
    """What becomes of a mode here, in Markdown; each way in which it is dealt with."""
    told = [f"same test: `{name}`" for _, name in SAME if mode_of(name) == mode]
    if mode in OWN:
        told.append(f"`{OWN[mode]}`")
    if mode in NOTHING:
        told.append(f"cannot happen: {NOTHING[mode]}")
    if mode in UNTRIED:
        told.append(f"not tried: {UNTRIED[mode]}")
    return told


def rows(titles: dict[str, str]) -> Iterator[str]:
    """The table of the documentation, line by line. ``titles``: of the modes, by their ids."""
    yield "| id | what happens | on PostgreSQL |"
    yield "| --- | --- | --- |"
    for mode, title in titles.items():
        yield f"| {mode} | {title} | {'<br>'.join(fates(mode))} |"
