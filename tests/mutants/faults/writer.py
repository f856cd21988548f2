"""Faults of what a turn writes: openings, ends, markers, ids, parents, epochs."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

OPENING_APART = Mutant(
    "the opening is written before the first entry, and not with it",
    Edit(
        "turns/writer.py",
        "            if fresh:\n                self._write(fresh",
        "            if fresh:\n"
        "                self.opened or self._write((), with_opening=True)\n"
        "                self._write(fresh",
    ),
    caught_by="tests/turns/test_writing.py::test_a_turn_opens_with_its_first_entry_in_one_write",
)
NO_OPENING = Mutant(
    "entries come without an opening",
    Edit(
        "turns/writer.py",
        "            numbered.append((epoch, _opening(self._turn_id, self._held.opening)))\n",
        "            pass\n",
    ),
    caught_by="tests/conformance/test_turns.py::TestInAThread::test_a_turn_is_opened_and_ended_once",
)
SAME_EPOCH = Mutant(
    "a turn has the epoch of the turn before",
    Edit(
        "turns/writer.py",
        "            assert self._turn_id is not None\n            epoch += 1\n",
        "            assert self._turn_id is not None\n            epoch = max(epoch, 1)\n",
    ),
    caught_by="tests/conformance/test_turns.py::TestInAThread::test_epochs_count_the_turns_that_wrote",
)
ENTRIES_ONE_BY_ONE = Mutant(
    "entries that are appended together are written one by one",
    Edit(
        "turns/writer.py",
        "                self._write(fresh, with_opening=True)\n",
        "                for one in fresh:\n"
        "                    self._write([one], with_opening=True)\n",
    ),
    caught_by="tests/conformance/test_turns.py::TestInAThread::test_what_is_no_entry_is_refused_whole",
)
ID_TWICE = Mutant(
    "an id that the transcript has is written again",
    Edit(
        "turns/writer.py",
        "            seen = self._backend.known_ids(self._held, own) if own else set()\n",
        "            seen: set[str] = set()\n",
    ),
    caught_by="tests/conformance/test_turns.py::TestInAThread::test_the_same_id_twice_is_one_entry",
)
ID_TWICE_IN_ONE = Mutant(
    "an id that comes twice in one append is written twice",
    Edit("turns/writer.py", "                    seen.add(identity)\n", ""),
    caught_by="tests/conformance/test_turns.py::TestInAThread::test_the_same_id_twice_is_one_entry",
)
NO_PARENTS = Mutant(
    "entries of one append have all the same parent",
    Edit("turns/writer.py", '            last_id = entry["id"]\n', ""),
    caught_by="tests/conformance/test_turns.py::TestInAThread::test_entries_are_chained_by_their_parents",
)
ENDS_TWICE = Mutant(
    "an end that is written again is there twice",
    Edit(
        "turns/writer.py",
        "            if self._has_ended():\n",
        "            if False:\n",
    ),
    caught_by="tests/files/test_faults.py::test_every_call_fails_once_and_nothing_acknowledged_is_lost",
)
LATE_ACKNOWLEDGED = Mutant(
    "an append that comes while its turn ends is acknowledged and not written",
    Edit(
        "turns/writer.py", "        if self._closed:\n            raise Ended\n", "        pass\n"
    ),
    caught_by="tests/conformance/test_ends.py::test_what_comes_after_the_end_is_refused",
)
FIRST_AFTER_THE_END = Mutant(
    "a turn that ended without a word may still begin to write",
    Edit(
        "turns/turn.py",
        '        writer = self._made.setdefault("writer", None)\n',
        '        writer = self._made.get("writer")\n',
    ),
    caught_by="tests/conformance/test_ends.py::test_what_comes_after_the_end_is_refused",
)
RESERVED_ALLOWED = Mutant(
    "a caller may write terminal entries",
    Edit(
        "turns/writer.py",
        '    if kind == "session" or custom_type(made) in RESERVED:\n',
        '    if kind == "session":\n',
    ),
    caught_by="tests/conformance/test_turns.py::TestInAThread::test_what_is_no_entry_is_refused_whole",
)
HEADERS_ALLOWED = Mutant(
    "a caller may write headers",
    Edit(
        "turns/writer.py",
        '    if kind == "session" or custom_type(made) in RESERVED:\n',
        "    if custom_type(made) in RESERVED:\n",
    ),
    caught_by="tests/conformance/test_turns.py::TestInAThread::test_what_is_no_entry_is_refused_whole",
)
ANY_ID = Mutant(
    "a caller's id may be any text",
    Edit(
        "turns/writer.py",
        "    elif not isinstance(identity, str) or not _ID.fullmatch(identity):\n",
        "    elif not isinstance(identity, str):\n",
    ),
    caught_by="tests/conformance/test_turns.py::TestInAThread::test_what_is_no_entry_is_refused_whole",
)
CALLERS_EPOCH = Mutant(
    "a caller's epoch stands",
    Edit(
        "turns/writer.py",
        '            **rest,\n            "epoch": epoch,\n',
        '            "epoch": epoch,\n            **rest,\n',
    ),
    caught_by="tests/conformance/test_turns.py::TestInAThread::test_a_forged_epoch_is_replaced",
)
CALLS_WITHOUT_RESULT = Mutant(
    "a turn that fails leaves its tool calls without a result",
    Edit(
        "turns/writer.py",
        '                [*_results(self._calls.values()), {"id"',
        '                [{"id"',
    ),
    caught_by="tests/conformance/test_turns.py::TestInAThread::test_a_turn_that_fails_closes_its_calls",
)
OWED_CALLS_WITHOUT_RESULT = Mutant(
    "a turn that died leaves its tool calls without a result",
    Edit(
        "turns/writer.py",
        "        results = _results(tail.calls)\n",
        "        results: list[Entry] = []\n",
    ),
    caught_by="tests/files/test_owed.py::test_calls_of_a_turn_that_was_left_open_get_results",
)
ANSWERED_AGAIN = Mutant(
    "a tool call that has its result gets another",
    Edit(
        "turns/writer.py",
        '            self._calls.pop(answered_call(entry) or "", None)\n',
        "",
    ),
    caught_by="tests/conformance/test_turns.py::TestInAThread::test_a_turn_that_fails_closes_its_calls",
)
EARLIER_UNMARKED = Mutant(
    "a turn left open behind later ones gets no marker",
    Edit(
        "turns/writer.py",
        "        for seen in tail.earlier:\n",
        "        for seen in ():\n",
    ),
    caught_by="tests/files/test_owed.py::test_every_turn_that_was_left_open_gets_its_marker_once",
)
EARLIER_UNDER_ITS_EPOCH = Mutant(
    "a marker behind later turns has an old epoch",
    Edit(
        "turns/writer.py",
        "        for opening_id, failure in late:\n            epoch += 1\n",
        "        for opening_id, failure in late:\n",
    ),
    caught_by="tests/files/test_owed.py::test_every_turn_that_was_left_open_gets_its_marker_once",
)
CLOSES_NOTHING = Mutant(
    "a marker behind later turns does not say which it closes",
    Edit("turns/writer.py", "failure._replace(closes=seen.epoch)", "failure"),
    caught_by="tests/files/test_owed.py::test_every_turn_that_was_left_open_gets_its_marker_once",
)
WROTE_NOTHING_OWES_NOTHING = Mutant(
    "a turn that wrote nothing and died gets no marker",
    Edit(
        "turns/writer.py",
        "            if turn.turn_id and not tail.shows(turn.turn_id, turn.opening)\n",
        "            if False\n",
    ),
    caught_by="tests/files/test_faults.py::test_a_marker_that_clean_up_cannot_write_is_written_by_the_next_turn",
)
MARKED_ALREADY = Mutant(
    "a turn that has its terminal entry gets a marker once more",
    Edit(
        "turns/writer.py",
        "            if turn.turn_id and not tail.shows(turn.turn_id, turn.opening)\n",
        "            if turn.turn_id\n",
    ),
    caught_by="tests/turns/test_found_by_simulation.py::test_a_claim_that_is_back_after_a_power_cut_owes_nothing_for_a_turn_that_ended",
)
SAME_NAME_MARKED = Mutant(
    "a turn that has the name of one before it is taken for that one",
    Edit(
        "transcript/tail.py",
        "        return self.turn_id == turn_id and opening in (self.opening, None)\n",
        "        return self.turn_id == turn_id\n",
    ),
    caught_by="tests/conformance/test_names.py::test_a_turn_is_marked_although_one_of_its_name_ended_before",
)
GIVES_IN_TO_ANOTHER = Mutant(
    "an append gives up when another program wrote in between",
    Edit(
        "turns/writer.py",
        "            except TailMoved:\n",
        "            except TailMoved:\n                return\n",
    ),
    caught_by="tests/files/test_faults.py::test_what_another_program_appends_in_between_is_kept",
)
MARKS_IN_SILENCE = Mutant(
    "markers for predecessors are not counted",
    Edit("turns/writer.py", "                self._on_marked(failure)\n", "                pass\n"),
    caught_by="tests/turns/test_writing.py::test_a_turn_that_wrote_nothing_and_died_is_opened_and_marked_in_one_write",
)
DEAD_FOR_SO_LONG = Mutant(
    "a dead turn is said to have held for as long as it lay there",
    Edit(
        "turns/writer.py",
        'ERRORS[reason], None if reason == "interrupted" else held)\n',
        "ERRORS[reason], held)\n",
    ),
    caught_by="tests/turns/test_writing.py::test_nobody_knows_how_long_a_dead_turn_had_held",
)
