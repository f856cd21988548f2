"""Faults of the transcript: how it is written, read, repaired, and made into a history."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant, appended

# Writing

GLUED = Mutant(
    "an append goes on with a line that was cut short",
    Edit(
        "backends/files/backend.py",
        "                if lease.tail.fragment is not None:\n",
        "                if False:\n",
    ),
)
REWRITES = Mutant(
    "an append empties the transcript and writes it anew",
    appended(
        "backends/files/backend.py",
        """
        def _write_all_of_it(self, lease, transcript, data, after):
            size = self._transcripts.size(transcript)
            before = self._files.read_at(transcript, 0, size)
            __import__("os").ftruncate(transcript.fd, 0)
            write_all(self._files, transcript, before + data)
            lease.tail = after._replace(size=size + len(data), fragment=None)

        FilesBackend._write = _write_all_of_it
        """,
    ),
)
HEALS_IN_PLACE = Mutant(
    "a healed copy is written over the transcript",
    appended(
        "backends/files/replacing.py",
        """
        def _put_over(self, size):
            import shutil
            self._flush()
            handle = self._lease.transcript
            kept = self._keep(handle)
            copy = self._files.read_at(self._newborn.handle, 0, 10**9)
            shutil.copy(kept, kept + ".tmp")
            self._files.rename(kept + ".tmp", kept)
            os.ftruncate(handle.fd, 0)
            write_all(self._files, handle, copy)
            return kept

        Replacement.put = _put_over
        """,
    ),
)
ACKED_UNWRITTEN = Mutant(
    "an append is acknowledged although the disk was full",
    Edit(
        "backends/files/backend.py",
        "                write_all(self._files, transcript, data)\n",
        "                try:\n"
        "                    write_all(self._files, transcript, data)\n"
        "                except OSError:\n"
        "                    return\n",
    ),
)
STARTS_ANEW = Mutant(
    "a transcript whose header cannot be read is begun anew",
    appended(
        "backends/files/transcripts.py",
        """
        def _open_sound(self, place):
            handle = _open(self, place)
            if handle is not None and self.header_id(handle) is None:
                os.ftruncate(handle.fd, 0)
            return handle

        _open, Transcripts.open = Transcripts.open, _open_sound
        """,
    ),
)
SPLICED = Mutant(
    "line breaks inside of an entry are written as they are",
    Edit(
        "transcript/jsonl.py",
        "        text = _encoder.encode(entry)\n",
        '        text = _encoder.encode(entry).replace("\\\\n", "\\n")\n',
    ),
)
WHOEVER_IS_THERE = Mutant(
    "an append does not ask whether the path still names its transcript",
    Edit(
        "backends/files/backend.py",
        "            if found is None or file_of(found) != lease.transcript_id:\n",
        "            if found is None:\n",
    ),
)
REVIVED = Mutant(
    "a revocation makes a transcript that is missing",
    Edit(
        "backends/files/backend.py",
        "            missing = Missing.LEFT if had_one else Missing.MADE\n",
        "            missing = Missing.MADE\n",
    ),
)
TAKEOVER = Mutant(
    "a transcript that somebody else wrote counts as taken over",
    Edit("backends/files/backend.py", "            raise TailMoved\n", "            raise Lost\n"),
)
FENCED_BY_TIME = Mutant(
    "a lease is known by the time stamp of its claim",
    Edit(
        "backends/files/claims.py",
        "        return named_file(self._files, lease.place.lock) == lease.claim_id\n",
        "        try:\n"
        "            named = self._files.stat_path(lease.place.lock)\n"
        "        except FileNotFoundError:\n"
        "            return False\n"
        "        return named.st_mtime == self._files.stat_handle(lease.claim).st_mtime\n",
    ),
)

# What a turn leaves, and what the next one repairs

CALLS_LEFT_OPEN = Mutant(
    "a turn that was cut off leaves its tool calls without results",
    Edit(
        "turns/writer.py",
        "        results = _results(tail.calls)\n",
        "        results: list[Entry] = []\n",
    ),
)
HALF_CALLS_ANSWERED = Mutant(
    "half a call gets a result",
    Edit(
        "transcript/entries.py",
        '    if message.get("role") != "assistant" or message.get("stopReason") in CUT_SHORT:\n',
        '    if message.get("role") != "assistant":\n',
    ),
)
NAMELESS_ANSWERED = Mutant(
    "a call without an id gets a result",
    Edit(
        "transcript/entries.py",
        "    return [call for call in made if _is_named(call.id) and _is_named(call.name)]\n",
        "    return list(made)\n",
    ),
)
NOT_MARKED = Mutant(
    "a revocation writes no marker",
    Edit(
        "turns/revoking.py",
        "        writer.settle()\n        markers = ",
        "        markers = ",
    ),
)
SPEAKS_FOR_THE_USER = Mutant(
    "after a turn that was cut off the user is made to say something",
    Edit(
        "turns/writer.py",
        "            owed += [(unfinished.epoch, entry) for entry in closing]\n",
        "            owed += [(unfinished.epoch, entry) for entry in closing]\n"
        "            go_on = [{'type': 'text', 'text': 'Continue from where you left off.'}]\n"
        "            said = {'role': 'user', 'content': go_on}\n"
        "            owed.append(\n"
        "                (unfinished.epoch, {'id': new_id(), 'type': 'message', 'message': said})\n"
        "            )\n",
    ),
)

# Reading

ONE_BAD_LINE_ENDS_IT = Mutant(
    "a line that is no JSON is an error for whoever reads",
    Edit(
        "transcript/jsonl.py",
        "    except (ValueError, RecursionError):\n        return None\n    return value if",
        "    except (ValueError, RecursionError):\n"
        "        from ..errors import TranscriptError\n\n"
        '        raise TranscriptError("it", "a line of it is no JSON") from None\n'
        "    return value if",
    ),
)
SKIPPED_IN_SILENCE = Mutant(
    "readers do not count what they skip",
    Edit(
        "transcript/jsonl.py",
        "            damaged += line.is_damaged\n",
        "            pass\n",
    ),
)
DOCTOR_SKIPS = Mutant(
    "doctor does not look at damaged lines",
    Edit(
        "doctor/checks/transcripts.py",
        "    lost = copy.missing(damaged) if damaged else []\n    if lost:\n",
        "    lost = copy.missing(damaged) if damaged else []\n    if False:\n",
    ),
)

# The history

OPEN_CALLS_SENT = Mutant(
    "a call without result is sent without one",
    Edit(
        "transcript/history.py",
        "        for call in calls\n    ]\n",
        "        for call in calls\n        if call.result is not None\n    ]\n",
    ),
)
HALF_CALLS_SENT = Mutant(
    "half a call is sent",
    Edit(
        "transcript/history.py",
        "call for call in said.calls if call.result is not None or not said.cut_short]",
        "call for call in said.calls]",
    ),
)
MARKERS_SENT = Mutant(
    "error markers are sent to the model",
    Edit(
        "transcript/history.py",
        '            self._say("user", told(entry))\n',
        '            error = entry["type"] == "custom" and entry["data"].get("error")\n'
        '            self._say("assistant", f"[error: {error}]" if error else "")\n'
        '            self._say("user", told(entry))\n',
    ),
)
EPOCH_OF_THE_LAST = Mutant(
    "the highest epoch is that of the oldest entry read",
    Edit(
        "transcript/tail.py",
        "        highest = max(highest, epoch)\n",
        "        highest = epoch\n",
    ),
    caught_by="tests/transcript/test_tail.py::test_a_turn_before_one_whose_opening_is_gone_is_found",
)
NO_FRAGMENT = Mutant(
    "bytes behind the last newline are not seen",
    Edit(
        "transcript/tail.py",
        "        self.fragment = offset if offset < self._size else None\n",
        "        self.fragment = None\n",
    ),
    caught_by="tests/transcript/test_tail.py::test_every_torn_end_is_a_fragment_and_nothing_else",
)
HEADER_IS_PARENT = Mutant(
    "the header is the parent of the first entry",
    Edit(
        "transcript/tail.py",
        '        if last_id is None and entry.get("type") != "session":\n',
        "        if last_id is None:\n",
    ),
    caught_by="tests/transcript/test_tail.py::test_a_header_alone_is_no_parent",
)
EARLIER_UNSEEN = Mutant(
    "only the last turn can be without a terminal entry",
    Edit(
        "transcript/tail.py",
        "        return self.open_turn is not None or bool(self.earlier)\n",
        "        return self.open_turn is not None\n",
    ),
    caught_by="tests/files/test_owed.py::test_a_turn_left_open_behind_one_that_ended_gets_its_marker",
)
ENDED_IS_OPEN = Mutant(
    "an error marker does not end its turn",
    Edit(
        "transcript/entries.py",
        "    return custom_type(entry) in TERMINAL and epoch_of(entry) is not None\n",
        "    return custom_type(entry) == END and epoch_of(entry) is not None\n",
    ),
    caught_by="tests/files/test_owed.py::test_every_turn_that_was_left_open_gets_its_marker_once",
)
ANY_EPOCH = Mutant(
    "any number is an epoch",
    Edit(
        "transcript/entries.py",
        " and 0 < epoch <= EPOCH_MAX:\n",
        ":\n",
    ),
    caught_by="tests/transcript/test_tail.py::test_a_number_that_is_no_epoch_does_not_count",
)
ONE_BLOCK = Mutant(
    "a line that is longer than one read is lost",
    Edit(
        "transcript/tail.py",
        "            block = self._block = self._read_at(start, end - start) + carried\n",
        "            block = self._block = self._read_at(start, end - start)\n",
    ),
    caught_by="tests/transcript/test_tail.py::test_a_long_line_is_found_across_blocks",
)
OLDEST_CALLS_FIRST = Mutant(
    "an answered call of the last turn counts as open",
    Edit(
        "transcript/tail.py",
        "            if call.id not in self._answered:\n",
        "            if True:\n",
    ),
    caught_by="tests/transcript/test_tail.py::test_the_calls_that_an_open_turn_left_without_result",
)
OPENCLAW_MARKER_NO_ANSWER = Mutant(
    "OpenClaw's own error marker does not count as an answer",
    Edit(
        "transcript/tail.py",
        "        if custom_type(entry) in TERMINAL:\n            return End(unanswered)\n",
        "",
    ),
    caught_by="tests/transcript/test_tail.py::test_an_unanswered_end_is_told_from_an_answered_one",
)
NAN_ALLOWED = Mutant(
    "NaN is written",
    Edit("transcript/jsonl.py", "allow_nan=False,", "allow_nan=True,"),
    caught_by="tests/transcript/test_tail.py::test_what_is_not_json_is_refused",
)
NAN_READ = Mutant(
    "a line with NaN counts as an entry",
    Edit(
        "transcript/jsonl.py",
        "_decoder = json.JSONDecoder(parse_constant=_refuse)\n",
        "_decoder = json.JSONDecoder()\n",
    ),
    caught_by="tests/transcript/test_tail.py::test_what_only_python_takes_for_json_is_damaged",
)
LINE_BREAKS_WRITTEN = Mutant(
    "line breaks that only some readers know are written as they are",
    Edit(
        "transcript/jsonl.py",
        '        text = _LINE_BREAKS.sub(lambda found: f"\\\\u{ord(found[0]):04x}", text)\n',
        "        pass\n",
    ),
    caught_by="tests/transcript/test_tail.py::test_lines_are_split_at_newlines_only",
)
SURROGATES_RAISE = Mutant(
    "half a character stops an append",
    Edit(
        "transcript/jsonl.py",
        "    except UnicodeEncodeError:\n        # A lone",
        "    except UnicodeDecodeError:\n        # A lone",
    ),
    caught_by="tests/transcript/test_tail.py::test_lone_surrogates_become_replacement_characters",
)
GLUED_UNSEEN = Mutant(
    "an entry that was glued to a torn one is lost",
    Edit(
        "transcript/jsonl.py",
        "        if entry is not None and _is_whole(entry):\n            yield start, stop, entry\n",
        "        if False:\n            yield start, stop, entry\n",
    ),
    caught_by="tests/transcript/test_glued.py::test_two_entries_without_a_newline_between_are_both_read",
)
ANY_OBJECT_IS_AN_ENTRY = Mutant(
    "a part of a torn entry counts as an entry",
    Edit(
        "transcript/jsonl.py",
        '    return is_header or "parentId" in entry or epoch_of(entry) is not None\n',
        "    return True\n",
    ),
    caught_by="tests/transcript/test_glued.py::test_what_names_no_parent_and_has_no_epoch_is_no_entry_of_its_own",
)
FRAGMENT_IS_READ = Mutant(
    "a reader takes a fragment for a line",
    Edit(
        "transcript/jsonl.py",
        "        if not raw.complete and not fragment:\n",
        "        if False:\n",
    ),
    caught_by="tests/files/test_faults.py::test_a_torn_tail_is_left_and_stepped_over",
)
LACKS_A_NEWLINE = Mutant(
    "an entry that lacks nothing but its newline is lost",
    Edit(
        "transcript/jsonl.py",
        "    if raw.is_whole:\n        for start, part, entry in whole_pieces(raw.kept):\n",
        "    if False:\n        for start, part, entry in whole_pieces(raw.kept):\n",
    ),
    caught_by="tests/transcript/test_tail.py::test_an_entry_that_lacks_only_its_newline_is_one",
)
DAMAGE_STOPS = Mutant(
    "reading stops at a damaged line",
    Edit(
        "transcript/jsonl.py",
        "            damaged += line.is_damaged\n",
        "            return\n",
    ),
    caught_by="tests/files/test_faults.py::test_a_torn_tail_is_left_and_stepped_over",
)
NO_BOM = Mutant(
    "a line with a byte order mark is damaged",
    Edit(
        "transcript/jsonl.py",
        "        value = _decoder.decode(line.removeprefix(BOM_UTF8).decode())\n",
        "        value = _decoder.decode(line.decode())\n",
    ),
    caught_by="tests/transcript/test_tail.py::test_a_byte_order_mark_is_no_damage",
)
MARKERS_FOR_MODELS = Mutant(
    "error markers go to the model",
    Edit(
        "transcript/history.py",
        '            return spoken(entry.get("content"))\n',
        '            return spoken(entry.get("content"))\n'
        '        case "custom":\n            return str(entry.get("data"))\n',
    ),
    caught_by="tests/conformance/test_turns.py::TestInAThread::test_markers_never_reach_a_model",
)
WHITE_SPACE_SENT = Mutant(
    "white space alone goes to the model as a text",
    Edit(
        "transcript/history.py",
        '    return clean(text) if text.strip() else ""\n',
        "    return clean(text)\n",
    ),
    caught_by="tests/transcript/test_history.py::test_white_space_alone_is_nothing",
)
HEALED_BEHIND_THE_FIRST = Mutant(
    "in a healed copy what went on from the second of two entries with one id goes on from the first",
    Edit(
        "transcript/healing.py",
        "            self._links.pop(named, None)\n",
        "            pass\n",
    ),
    caught_by="tests/files/test_healing.py"
    "::test_who_went_on_from_the_second_of_two_entries_with_one_id_still_does",
)
RESULTLESS_CALLS = Mutant(
    "a call without result has none in the history",
    Edit(
        "transcript/history.py",
        '    return [said.message | {"tool_calls"',
        '    results = [one for one in results if one["content"] != _NO_RESULT]\n'
        '    return [said.message | {"tool_calls"',
    ),
    caught_by="tests/transcript/test_history.py::test_a_call_without_result_gets_one_that_says_so",
)
CUT_CALLS_SENT = Mutant(
    "half a call of a reply that was cut short goes to the model",
    Edit(
        "transcript/history.py",
        "    calls = [call for call in said.calls if call.result is not None or not said.cut_short]\n",
        "    calls = said.calls\n",
    ),
    caught_by="tests/transcript/test_history.py::test_half_a_call_is_left_out_of_a_reply_that_was_cut_short",
)
ALL_BRANCHES = Mutant(
    "a history has the messages of all branches",
    Edit(
        "transcript/history.py",
        "    return _uncompacted(active_branch(list(entries)))\n",
        "    return _uncompacted(list(entries))\n",
    ),
    caught_by="tests/transcript/test_history.py::test_a_model_is_told_of_the_branch_alone",
)
MISSING_PARENT_ENDS = Mutant(
    "a history ends where a parent is missing",
    Edit(
        "transcript/history.py",
        "        found = self._position.get(parent, index - 1) if isinstance(parent, str) else index - 1\n",
        "        found = self._position.get(parent, -1) if isinstance(parent, str) else index - 1\n",
    ),
    caught_by="tests/transcript/test_history.py::test_a_parent_that_is_missing_or_comes_later_is_the_entry_before",
)
EMPTY_MESSAGES = Mutant(
    "empty messages go to the model",
    Edit(
        "transcript/history.py",
        '        return [said.message] if said.message["content"] else []\n',
        "        return [said.message]\n",
    ),
    caught_by="tests/transcript/test_history.py::test_nothing_empty_is_sent",
)
NULS_FOR_MODELS = Mutant(
    "NULs go to the model",
    Edit(
        "transcript/history.py",
        '    text = text.replace("\\0", "\\ufffd")\n',
        "",
    ),
    caught_by="tests/transcript/test_history.py::test_text_holds_neither_nul_nor_half_of_a_character",
)
UNCOMPACTED = Mutant(
    "a compacted history has all that was compacted",
    Edit(
        "transcript/history.py",
        "    if place is None:\n        return branch\n",
        "    if True:\n        return branch\n",
    ),
    caught_by="tests/transcript/test_history.py::test_a_compaction_stands_for_what_was_before_it",
)
MARKER_OF_ANY_SIZE = Mutant(
    "a marker is as long as its error",
    Edit(
        "transcript/entries.py",
        '        "error": _cut(failure.error, _ERROR_BYTES_MAX),\n',
        '        "error": failure.error,\n',
    ),
    caught_by="tests/transcript/test_tail.py::test_a_marker_is_at_most_two_kilobytes",
)
HEALED_PARENTS_STAY = Mutant(
    "a healed copy keeps parents that are not there",
    Edit(
        "transcript/healing.py",
        "        if wanted == parent:\n            return bare",
        "        if True:\n            return bare",
    ),
    caught_by="tests/files/test_healing.py::test_the_chain_of_parents_leads_through_what_was_damaged",
)
HEALED_CALLS_STAY = Mutant(
    "a healed copy has calls without a result",
    Edit(
        "transcript/healing.py",
        "        for call in calls:\n            yield self._result(call, entry)\n",
        "",
    ),
    caught_by="tests/files/test_healing.py::test_a_result_is_put_behind_its_call_and_before_what_followed",
)
HEALED_WITHOUT_HEADER = Mutant(
    "a healed copy of a transcript without header has none",
    Edit(
        "transcript/healing.py",
        ' + b"\\n" if headers else self._header()\n',
        ' + b"\\n" if headers else b""\n',
    ),
    caught_by="tests/files/test_healing.py::test_every_entry_stays_and_the_original_is_kept",
)
PARENT_SOUGHT_FOR_EVER = Mutant(
    "a take parses all lines without an id for the parent of its first entry",
    Edit(
        "transcript/tail.py",
        "                if parsed >= _PARENT_LINES_MAX or passed > _PARENT_BYTES_MAX:\n",
        "                if False:\n",
    ),
    caught_by="tests/transcript/test_tail.py::test_a_parent_is_not_looked_for_through_the_whole_file",
)
