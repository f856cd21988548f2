"""Faults of what outlives a process or a power cut: order, durability, what is owed."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant, appended

FSYNC_DROPPED = Mutant(
    "an append is acknowledged without fsync",
    Edit("backends/files/backend.py", "            if self._durable:\n", "            if False:\n"),
    caught_by="tests/files/test_faults.py::test_after_a_failed_fsync_nothing_is_acknowledged_and_the_lease_has_ended",
)
DIRECTORY_NOT_SYNCED = Mutant(
    "the name of a transcript is not made durable",
    Edit(
        "backends/files/backend.py",
        "                self._transcripts.make_name_durable(place)\n",
        "                pass\n",
    ),
)
OWED_DROPPED = Mutant(
    "what a dead claim owed itself is dropped",
    Edit(
        "backends/files/claims.py",
        "        owed = (*before, turn)\n",
        "        owed = (turn,)\n",
    ),
)
SHORT_WRITES = Mutant(
    "a short write is not continued",
    Edit(
        "backends/files/fileops.py",
        "    if written < len(data):\n",
        "    if False:\n",
    ),
)
MARKER_FIRST = Mutant(
    "an operator writes the error marker before the fence is up",
    appended(
        "store.py",
        """
        def _marker_first(self, key, reason="operator", *, turn_id=Whose.ANYONES):
            from .backends.files.fileops import write_all
            from .transcript.entries import Failure, marker, new_id
            from .turns.writer import _line

            backend, wall = self._backend, self._runtime.clock.wall()
            place = backend.layout.place(parse_key(key))
            transcripts = backend._transcripts
            handle = transcripts.open(place)
            size = transcripts.size(handle) if handle else 0
            tail = transcripts.tail(handle, size, turns=1, known=Tail()) if handle else Tail()
            turn = tail.open_turn
            if turn is not None:
                failure = Failure(turn.turn_id or "", reason, reason)
                entry = {"id": new_id()} | marker(failure, session_id=None, wall=wall)
                line = _line(entry, tail.last_id, turn.epoch, wall)
                with transcripts.guard(place, handle):
                    write_all(backend._files, handle, line)
            return _fence_first(self, key, reason, turn_id=turn_id)

        _fence_first, Store.revoke = Store.revoke, _marker_first
        """,
    ),
)
FSYNC_OF_NOTHING = Mutant(
    "fdatasync does nothing",
    Edit(
        "backends/files/fileops.py",
        '        getattr(os, "fdatasync", os.fsync)(handle.fd)\n',
        "        handle.fd\n",
    ),
    caught_by="tests/files/test_durability.py::test_every_acknowledgement_comes_after_the_disks",
)
FAILED_FSYNC_ACKNOWLEDGED = Mutant(
    "an append is acknowledged after a failed fsync",
    Edit(
        "backends/files/backend.py",
        "            self._unlink_claim(lease)\n            raise\n",
        "            self._unlink_claim(lease)\n",
    ),
    caught_by="tests/files/test_faults.py::test_after_a_failed_fsync_nothing_is_acknowledged_and_the_lease_has_ended",
)
FAILED_FSYNC_FORGIVEN = Mutant(
    "a lease goes on after a failed fsync",
    Edit(
        "backends/files/backend.py",
        "            lease.spoiled = True\n"
        "            lease.tail = lease.tail._replace(size=-1)\n"
        "            self._unlink_claim(lease)\n",
        "",
    ),
    caught_by="tests/files/test_faults.py::test_after_a_failed_fsync_nothing_is_acknowledged_and_the_lease_has_ended",
)
DIRECTORY_UNSYNCED = Mutant(
    "a transcript's name is not made durable",
    Edit(
        "backends/files/transcripts.py",
        "        self._sync_directory(place.directory)\n        if place.directory in",
        "        if place.directory in",
    ),
    caught_by="tests/turns/test_found_by_simulation.py::test_whoever_writes_the_first_entry_makes_every_name_down_to_it_durable_first",
)
PARENTS_UNSYNCED = Mutant(
    "the names of directories are not made durable",
    Edit(
        "backends/files/transcripts.py",
        "            self._sync_directory(directory)\n        # Not before",
        "            pass\n        # Not before",
    ),
    caught_by="tests/turns/test_found_by_simulation.py::test_whoever_writes_the_first_entry_makes_every_name_down_to_it_durable_first",
)
NAME_UNSYNCED = Mutant(
    "the first entry does not wait for the durable name of its transcript",
    Edit(
        "backends/files/backend.py",
        "                self._transcripts.make_name_durable(place)\n",
        "                pass\n",
    ),
    caught_by="tests/turns/test_found_by_simulation.py::test_whoever_writes_the_first_entry_makes_every_name_down_to_it_durable_first",
)
HEADER_UNSYNCED = Mutant(
    "a transcript has its name before its header is durable",
    Edit(
        "backends/files/transcripts.py",
        "            if self._durable:\n                self._files.fsync(newborn.handle)\n",
        "",
    ),
    caught_by="tests/files/test_durability.py::test_a_transcript_has_its_header_durable_before_it_has_its_name",
)
DURABLE_IN_ADVANCE = Mutant(
    "directories are noted as durable before they are",
    Edit(
        "backends/files/transcripts.py",
        '        directory, above = place.directory, ""\n',
        "        self._durable_directories.add(place.directory)\n"
        '        directory, above = place.directory, ""\n',
    ),
    caught_by="tests/files/test_durability.py::test_a_second_session_does_not_count_on_names_that_are_not_durable_yet",
)
FSYNC_IN_GUARD = Mutant(
    "an append holds the guard during its fsync",
    Edit(
        "backends/files/backend.py",
        "                write_all(self._files, transcript, data)\n",
        "                write_all(self._files, transcript, data)\n"
        "                self._make_durable(lease, transcript)\n",
    ),
    caught_by="tests/files/test_guard.py::test_a_slow_disk_holds_the_guard_up_for_nobody",
)
NO_GUARD = Mutant(
    "the guard guards nothing",
    Edit(
        "backends/files/guard.py",
        "        try:\n            self._take()\n        except BaseException:\n",
        "        try:\n            pass\n        except BaseException:\n",
    ),
    caught_by="tests/files/test_protocol.py::test_of_two_that_take_a_lock_without_transcript_one_loses",
)
GUARD_KEPT = Mutant(
    "the guard is not dropped",
    Edit(
        "backends/files/guard.py",
        "        # Never by closing: a duplicate of the descriptor in a child would keep the flock.\n"
        "        self._files.flock(self._handle, fcntl.LOCK_UN)\n",
        "        pass\n",
    ),
    caught_by="tests/files/test_protocol.py::test_a_take_that_was_revoked_before_it_began_does_not_begin",
)
GUARD_KEPT_ON_ERROR = Mutant(
    "a guard that an exception came in between is not dropped",
    Edit(
        "backends/files/guard.py",
        "            self._files.flock(self._handle, fcntl.LOCK_UN)\n            raise\n",
        "            raise\n",
    ),
    caught_by="tests/files/test_guard.py::test_an_exception_behind_the_flock_leaves_no_guard",
)
GUARD_FOR_EVER = Mutant(
    "the guard is waited for without end",
    Edit(
        "backends/files/guard.py",
        "            if waited >= self._timeout:\n",
        "            if False:\n",
    ),
    caught_by="tests/files/test_protocol.py::test_of_two_that_take_a_lock_without_transcript_one_loses",
)
GUARD_UNNAMED = Mutant(
    "the error of the guard does not name who has it",
    Edit(
        "backends/files/guard.py",
        "                pid = flock_holder(os.fstat(self._handle.fd))\n",
        "                pid = None\n",
    ),
    caught_by="tests/processes/test_holders.py::test_a_process_stopped_inside_the_guard_is_named",
)
GUARD_OF_ANOTHER = Mutant(
    "who has a guard does not look whether it is still the one",
    Edit(
        "backends/files/transcripts.py",
        "                    if named_file(self._files, place.transcript) == seen:\n",
        "                    if True:\n",
    ),
    caught_by="tests/files/test_guard.py::test_a_directorys_guard_is_no_good_once_there_is_a_transcript",
)
MADE_UNGUARDED = Mutant(
    "a transcript is made without the guard of its directory",
    Edit(
        "backends/files/transcripts.py",
        "            with self.guard(place, directory):\n",
        "            if True:\n",
    ),
    caught_by="tests/files/test_guard.py::test_nobody_takes_a_session_while_its_transcript_is_made",
)
CHECK_OUTSIDE = Mutant(
    "the fence is checked before the guard is taken",
    Edit(
        "backends/files/backend.py",
        "        with self._transcripts.guard(place, transcript):\n"
        "            self._claims.check(lease)\n"
        "            found =",
        "        self._claims.check(lease)\n"
        "        with self._transcripts.guard(place, transcript):\n"
        "            found =",
    ),
    caught_by="tests/files/test_guard.py::test_who_is_superseded_before_it_has_the_guard_writes_nothing",
)
TAIL_UNCHECKED = Mutant(
    "an append does not look whether the transcript has grown",
    Edit(
        "backends/files/backend.py",
        "            moved = size != lease.tail.size\n",
        "            moved = False\n",
    ),
    caught_by="tests/files/test_faults.py::test_what_another_program_appends_in_between_is_kept",
)
FRAGMENT_JOINED = Mutant(
    "an entry is appended to what was cut short",
    Edit(
        "backends/files/backend.py",
        '                    data = b"\\n" + data\n',
        "                    pass\n",
    ),
    caught_by="tests/files/test_owed.py::test_cut_at_every_byte_of_the_last_record_the_rest_is_read_and_written_on",
)
WRITES_WHAT_IS_GONE = Mutant(
    "an append goes to a transcript that has no name any more",
    Edit(
        "backends/files/backend.py",
        "            if found is None or file_of(found) != lease.transcript_id:\n"
        "                raise TranscriptError(\n                    place",
        "            if found is None:\n                raise TranscriptError(\n                    place",
    ),
    caught_by="tests/files/test_guard.py::test_nothing_is_appended_to_a_transcript_that_was_replaced",
)
SHORT_WRITE = Mutant(
    "a short write counts as whole",
    Edit(
        "backends/files/fileops.py",
        "    if written < len(data):\n",
        "    if False:\n",
    ),
    caught_by="tests/files/test_faults.py::test_short_writes_are_continued",
)
SPOILED_UNSEEN = Mutant(
    "a lease whose fsync failed may append",
    Edit("backends/files/backend.py", "            if lease.spoiled:\n", "            if False:\n"),
    caught_by="tests/files/test_faults.py::test_after_a_failed_fsync_nothing_is_acknowledged_and_the_lease_has_ended",
)
RESUMES_BLINDLY = Mutant(
    "a transcript that was kept open is not compared",
    Edit(
        "backends/files/beginning.py",
        "        if fingerprint != idle.fingerprint:\n",
        "        if False:\n",
    ),
    caught_by="tests/files/test_owed.py::test_cut_at_every_byte_of_the_last_record_the_rest_is_read_and_written_on",
)
BEGINS_UNCHECKED = Mutant(
    "a lease begins without a look at its claim",
    Edit(
        "backends/files/beginning.py",
        "            self._claims.check(lease)\n",
        "",
    ),
    caught_by="tests/files/test_guard.py::test_who_is_superseded_before_it_begins_does_not_begin",
)
BEGINS_IN_ANOTHER = Mutant(
    "a lease begins in a transcript that was replaced",
    Edit(
        "backends/files/beginning.py",
        "            if named_file(self._files, place.transcript) != lease.transcript_id:\n"
        "                return False\n",
        "",
    ),
    caught_by="tests/files/test_guard.py::test_a_turn_begins_with_the_transcript_that_the_path_names_by_then",
)
BEGINS_TOO_EARLY = Mutant(
    "a lease begins with an end that has grown since",
    Edit(
        "backends/files/beginning.py",
        "            if self._transcripts.size(transcript) != tail.size:\n"
        "                return False\n",
        "",
    ),
    caught_by="tests/files/test_guard.py::test_the_last_write_of_a_predecessor_is_waited_for_and_answered",
)
NO_HEADER = Mutant(
    "an empty transcript gets no header",
    Edit(
        "backends/files/beginning.py",
        "            if tail.size == 0 and header:\n",
        "            if False:\n",
    ),
    caught_by="tests/turns/test_small_promises.py::TestTheBeginning::test_a_transcript_that_a_bare_lock_made_gets_its_header_from_the_first_turn",
)
FOREIGN_NEVER_OWES = Mutant(
    "a turn of another program that was cut off gets no marker",
    Edit(
        "backends/files/beginning.py",
        "        if end.unanswered:\n",
        "        if False:\n",
    ),
    caught_by="tests/files/test_owed.py::test_openclaw_killed_in_a_tool_leaves_no_open_call",
)
FOREIGN_ALWAYS_OWES = Mutant(
    "a turn of another program that ended in peace gets a marker",
    Edit(
        "backends/files/beginning.py",
        "            lease.owed = lease.owed[:-1]\n",
        "            pass\n",
    ),
    caught_by="tests/files/test_openclaw.py::test_a_turn_that_openclaw_ended_is_not",
)
ONLY_LAST_TURN = Mutant(
    "what a claim owes is compared with the last turn alone",
    Edit("backends/files/beginning.py", "_TURNS_SEARCHED = 16\n", "_TURNS_SEARCHED = 0\n"),
    caught_by="tests/turns/test_found_by_simulation.py::test_a_claim_that_is_back_after_a_power_cut_owes_nothing_for_a_turn_that_ended",
)
ID_ANYWHERE = Mutant(
    "an id that only stands in a text counts as written",
    Edit(
        "transcript/ids.py",
        "            self._entries |= _of_entries(read_at, start, possible)\n",
        "            self._entries |= possible\n",
    ),
    caught_by="tests/conformance/test_backend.py::test_an_id_is_told_from_a_field_that_reads_like_it",
)
IDS_UNKNOWN = Mutant(
    "no id is known before",
    Edit(
        "transcript/ids.py",
        "        possible = {one for one in ids if one.encode() in self._named} - self._entries\n",
        "        possible: set[str] = set()\n",
    ),
    caught_by="tests/conformance/test_backend.py::test_known_ids_are_found_wherever_they_stand",
)
FORBIDDEN_IS_RAW = Mutant(
    "a transcript that may not be written is an error of the system",
    Edit(
        "backends/files/transcripts.py",
        "            if error.errno in (errno.EACCES, errno.EPERM):\n",
        "            if False:\n",
    ),
    caught_by="tests/turns/test_small_promises.py::TestTheBeginning::test_a_transcript_that_may_not_be_written_is_said_to_be_so",
)
HEALS_UNCHECKED = Mutant(
    "a healed copy takes its place without a look at the claim",
    Edit(
        "backends/files/replacing.py",
        "            self._claims.check(lease)\n",
        "",
    ),
    caught_by="tests/files/test_healing.py::test_who_is_superseded_while_it_heals_replaces_nothing",
)
HEALS_WHAT_HAS_GROWN = Mutant(
    "a healed copy takes the place of a transcript that has grown",
    Edit(
        "backends/files/replacing.py",
        " or size_of(found) != size:\n",
        ":\n",
    ),
    caught_by="tests/files/test_healing.py::test_what_another_program_changed_meanwhile_is_not_replaced",
)
HEALED_UNSYNCED = Mutant(
    "a healed copy takes its place before it is durable",
    Edit(
        "backends/files/replacing.py",
        "            self._files.fsync(self._newborn.handle)\n",
        "            pass\n",
    ),
    caught_by="tests/files/test_durability.py::test_a_healed_copy_is_durable_before_it_takes_its_place",
)
ORIGINAL_DROPPED = Mutant(
    "the original of a healed transcript is not kept",
    Edit(
        "backends/files/replacing.py",
        "            self._files.link(place.transcript, kept)\n"
        "            if named_file(self._files, kept) != original:\n",
        "            if False:\n",
    ),
    caught_by="tests/files/test_healing.py::test_every_entry_stays_and_the_original_is_kept",
)
REMOVED_UNFENCED = Mutant(
    "a holder that was superseded takes a transcript away",
    Edit("backends/files/removing.py", "        claims.check(lease)\n", ""),
    caught_by="tests/conformance/test_removing.py::test_a_holder_that_was_superseded_takes_nothing_away[files]",
)
REMOVED_WHAT_HAS_GROWN = Mutant(
    "a transcript that has grown is taken away",
    Edit(
        "backends/files/removing.py",
        " or size_of(found) != size:",
        " or size_of(found) < 0:",
    ),
    caught_by="tests/conformance/test_removing.py::test_what_is_not_as_its_holder_knows_it_stays[files]",
)
PRUNED_WHILE_USED = Mutant(
    "how old a session is is not asked again under its lease",
    Edit(
        "pruning.py",
        "if now is None or not _is_idle(backend, now, idle):",
        "if now is None:",
    ),
    caught_by="tests/conformance/test_pruning.py::test_it_is_asked_again_under_the_lease_how_old_it_is[files]",
)
PRUNED_UNARCHIVED = Mutant(
    "a session goes though the archive has another of its name",
    Edit(
        "pruning.py",
        "    if copied.result is Result.DIFFERS:\n        return Fate.DIFFERS\n",
        "",
    ),
    caught_by="tests/conformance/test_pruning.py::test_what_the_archive_has_under_its_name_is_not_written_over[files]",
)
PRUNED_OWING = Mutant(
    "a session goes whose last turn owes its terminal entry",
    Edit("pruning.py", "            if held.owes:\n", "            if False:\n"),
    caught_by="tests/conformance/test_pruning.py::test_a_turn_that_owes_its_terminal_entry_keeps_its_session[files]",
)
GUARD_LOOKED_FOR_ONCE = Mutant(
    "who has the guard is looked for once in a table that changes",
    Edit("backends/files/guard.py", "_LOOKS = 3\n", "_LOOKS = 1\n"),
    caught_by="tests/files/test_protocol.py::test_who_has_the_guard_is_looked_for_again",
)
POOLERS_WORD_IS_FINAL = Mutant(
    "what a pooler says of a server that went away is not asked again",
    Edit(
        "backends/postgres/database.py",
        "_LOST = (pg.AdminShutdown, pg.CrashShutdown, pg.ProtocolViolation)\n",
        "_LOST = (pg.AdminShutdown, pg.CrashShutdown)\n",
    ),
    caught_by="tests/postgres/test_outages.py::"
    "test_what_a_pooler_says_of_a_server_that_went_away_is_asked_again",
)
LATE_WRITE_IS_WRITTEN_AGAIN = Mutant(
    "an id is looked for before the first try of an append alone",
    Edit(
        "turns/writer.py",
        "                entries = self._unwritten(entries) if entries else entries\n",
        "                pass\n",
    ),
    caught_by="tests/postgres/test_answers.py::"
    "test_an_append_that_is_asked_for_again_while_the_first_commits_is_one_entry",
)
RENEWAL_IS_TURNED_AWAY = Mutant(
    "a renewal is turned away when many wait for a connection",
    Edit(
        "backends/postgres/database.py",
        "if self._waiting >= _WAITING_MAX and not urgent:\n",
        "if self._waiting >= _WAITING_MAX:\n",
    ),
    caught_by="tests/postgres/test_connections.py::test_a_renewal_is_not_turned_away",
)
IDLE_ONES_ARE_KEPT = Mutant(
    "when a connection is lost the idle ones are kept, which hang as well",
    Edit("backends/postgres/database.py", "        pool.drain()\n", "        pass\n"),
    caught_by="tests/postgres/test_connections.py::"
    "test_a_renewal_is_not_kept_by_connections_that_hang",
)
TRIES_NO_MORE = Mutant(
    "the pool connects no more though somebody waits",
    Edit(
        "backends/postgres/database.py", "                pool.check()\n", "                pass\n"
    ),
    caught_by="tests/postgres/test_connections.py::"
    "test_who_waits_for_a_server_that_is_down_has_it_when_it_is_back",
)
IDS_READ_ANEW = Mutant(
    "the whole transcript is read at each append with ids of its own",
    Edit(
        "transcript/ids.py",
        "        start = max(0, self.read_to - _FIELD_BYTES_MAX)\n",
        "        start = 0\n",
    ),
    caught_by="tests/files/test_ids.py::test_an_append_with_ids_of_its_own_reads_what_was_written_since",
)
IDS_IN_MEMORY_READ_ANEW = Mutant(
    "in memory the whole transcript is read at each append with ids of its own",
    Edit("backends/memory.py", "return lease.ids.among(", "return KnownIds().among("),
    caught_by="tests/transcript/test_ids.py::"
    "test_in_memory_an_append_with_ids_of_its_own_reads_what_was_written_since",
)
IDS_OUTLIVE_THE_FILE = Mutant(
    "ids of a transcript that another program wrote anew are known still",
    Edit(
        "backends/files/backend.py",
        "            lease.ids = None\n            turns",
        "            turns",
    ),
    caught_by="tests/files/test_ids.py::test_what_another_program_wrote_meanwhile_is_found",
)
COPY_MAKES_ITS_SOURCE = Mutant(
    "a copy of a session that is not there makes it",
    Edit(
        "copying.py",
        "        with HeldSession(source, session, make=False) as held:\n",
        "        with HeldSession(source, session, make=True) as held:\n",
    ),
    caught_by="tests/conformance/test_pruning.py::test_a_copy_of_a_session_that_is_not_there_makes_none",
)
PRUNING_MAKES_A_SESSION = Mutant(
    "pruning a session that another has taken away makes it anew",
    Edit(
        "pruning.py",
        "        with HeldSession(backend, session, make=False) as held:\n",
        "        with HeldSession(backend, session, make=True) as held:\n",
    ),
    caught_by="tests/conformance/test_pruning.py::test_a_session_that_another_pruning_takes_away_is_not_made_anew",
)
CUT_COPY_DIFFERS = Mutant(
    "a copy that was cut short within a line is another session for ever",
    Edit(
        "copying.py",
        "        elif wanted is None or not (line.is_damaged and wanted.startswith(line.raw)):\n",
        "        else:\n",
    ),
    caught_by="tests/files/test_copying.py::test_a_copy_that_was_cut_short_in_a_line_is_gone_on_with_for_ever",
)
FRAGMENT_PRUNED = Mutant(
    "pruning destroys bytes that are in no line",
    Edit(
        "pruning.py",
        "    if _ends_in_no_line(backend, session, held.lease.tail):\n",
        "    if False:\n",
    ),
    caught_by="tests/files/test_copying.py::test_bytes_behind_the_last_line_keep_their_session_until_they_are_a_line",
)
