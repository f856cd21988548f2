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
        "    try:\n        writer.settle()\n    except Lost:\n",
        "    try:\n        pass\n    except Lost:\n",
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
        "            damaged += bool(line.raw.strip())\n",
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
        '            case "compaction":\n',
        '            case "custom":\n'
        '                error = entry["data"].get("error")\n'
        '                self._say("assistant", error and f"[error: {error}]")\n'
        '            case "compaction":\n',
    ),
)
