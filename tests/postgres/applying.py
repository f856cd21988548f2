"""Which failures can happen to sessions in a database, and what tries them there.

The catalogue and its verdicts, with the faults that each test bites on, are those of the failure
suite (tests/failures, docs/failures.md), which runs on files. Here is what becomes of its modes on
PostgreSQL: the very same test runs with a database in place of the state directory, or with a
gateway whose sessions are in one; a test of its own makes the trigger happen in the way in which it
can there; or there is nothing to trigger. Of families A to D every mode has its fate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

# Tests of the failure suite that run here as they are, (module, function): of a store,
OF_A_STORE = (
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
# and of a gateway.
OF_A_GATEWAY = (
    ("a_ownership", "test_a1_a_hung_model_call_in_a_live_process_gives_the_session_back"),
    ("c_watchdogs", "test_c3_what_a_released_turn_comes_back_with_is_refused"),
    ("c_watchdogs", "test_c5_what_waits_behind_a_hung_turn_is_answered_in_order"),
    ("c_watchdogs", "test_c6_a_stream_that_says_nothing_meets_the_limit_of_content"),
    ("c_watchdogs", "test_c6_a_stream_that_never_ends_meets_the_limit_of_the_turn"),
    ("c_watchdogs", "test_c9_a_gateway_that_was_stopped_ends_no_healthy_call"),
    ("c_watchdogs", "test_c10_a_loop_that_is_always_late_ends_a_hung_call_all_the_same"),
    ("c_watchdogs", "test_c12_a_request_that_hangs_before_it_names_a_session_is_ended"),
    ("c_watchdogs", "test_c13_a_call_that_fails_is_tried_once"),
    ("d_calls", "test_d1_an_endpoint_that_never_answers_costs_each_message_its_limit"),
    ("d_calls", "test_d2_an_endpoint_that_falls_silent_is_left"),
    ("d_calls", "test_d3_keepalives_do_not_feed_the_limit"),
    ("d_calls", "test_d4_a_complete_answer_is_one_though_its_body_never_ends"),
    ("d_calls", "test_d6_every_way_to_a_model_has_the_limit"),
    ("d_calls", "test_d6_every_class_of_models_has_the_limit"),
    ("d_calls", "test_d7_an_answer_that_is_cut_short_is_none"),
    ("d_calls", "test_d8_a_first_word_has_a_limit_of_its_own"),
    ("d_calls", "test_d9_after_many_killed_calls_the_next_one_works"),
    ("d_calls", "test_d10_a_client_that_leaves_leaves_the_endpoint_too"),
    ("d_calls", "test_d11_no_error_is_ever_a_word_of_the_model"),
    ("d_calls", "test_d12_every_end_is_told_once_to_the_client_and_to_who_listens"),
    ("d_calls", "test_d13_after_a_time_out_every_message_is_a_turn"),
    ("d_calls", "test_d14_an_endpoint_that_crawls_through_a_large_request_is_bounded"),
    ("f_conversations", "test_f9_however_a_turn_fails_the_users_message_is_there_once"),
    ("f_conversations", "test_f9_a_gateway_that_is_killed_in_the_models_call_has_the_message"),
    ("f_conversations", "test_f11_of_each_message_it_is_on_record_whether_it_was_answered"),
    (
        "f_conversations",
        "test_f12_after_five_failures_the_model_is_sent_what_was_said_and_no_error",
    ),
    ("f_conversations", "test_f18_a_message_that_its_client_sends_again_is_stored_once"),
    ("f_conversations", "test_f23_who_comes_second_sees_what_the_first_one_did"),
    ("g_service", "test_g3_the_drain_ends_by_itself_and_each_turn_with_its_record"),
    ("g_service", "test_g4_no_start_takes_up_again_what_hung"),
    ("g_service", "test_g5_an_answer_that_was_lost_in_a_crash_is_given_again_and_not_made_again"),
    ("g_service", "test_g8_of_agents_that_call_each_other_none_waits_for_ever"),
    ("g_service", "test_g9_of_a_hundred_messages_at_once_each_is_answered_or_told_why_not"),
)
SAME = OF_A_STORE + OF_A_GATEWAY

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
# Mode to why it is not tried on a database, though it might be.
UNTRIED = {
    "A24": _ABOVE,
    "A26": "waits for an inbox, as on files",
    "A28": "who is killed to end its hold keeps it to the end of its lease, which no test awaits",
    "A29": "waits for an inbox, as on files",
    "A31": "what a take reads is counted on files only",
    "B2": "its test looks into files",
    "B8": "its test looks into files",
    "B10": "a thousand sessions are some thousands of commits: a minute for the same code",
    "C1": _ABOVE,
    "C2": "its test makes files that cannot be removed",
    "C7": _ABOVE,
    "C11": _ABOVE,
    "C14": _ABOVE,
    "D5": "a call of a model, without a session",
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


def rows(titles: Mapping[str, str]) -> Iterator[str]:
    """The table of the documentation, line by line. ``titles``: of the modes, by their ids.

    A mode of which nothing is said here has no row.
    """
    yield "| id | what happens | on PostgreSQL |"
    yield "| --- | --- | --- |"
    for mode, title in titles.items():
        if told := fates(mode):
            yield f"| {mode} | {title} | {'<br>'.join(told)} |"
