"""Faults of doctor and of the clean-up."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

UNMARKED = Mutant(
    "the clean-up frees a session and marks no turn",
    Edit(
        "cleaning.py",
        "    settlement = settle_and_release(\n"
        "        runtime, backend, held, label, patience=patience, then=look_again\n"
        "    )\n",
        "    settlement = Settlement(Markers.NONE, backend.release(held))\n"
        "    look_again(settlement)\n",
    ),
)
FIX_IN_A_HURRY = Mutant(
    "doctor waits for the marker of a stale lock no longer than a queue would",
    Edit(
        "doctor/checks/locks.py",
        "seen, stale_after, COMMAND_PATIENCE\n",
        "seen, stale_after\n",
    ),
    caught_by="tests/doctor/test_doctor_slow_disk.py::test_a_stale_lock_on_a_slow_disk_is_waited_for",
)
RELEASE_IN_A_HURRY = Mutant(
    "release says that a marker is owed which a slow disk has a second later",
    Edit("cli/release.py", ", patience=COMMAND_PATIENCE", ""),
    caught_by="tests/cli/test_cli_release.py::test_a_marker_is_waited_for_on_a_slow_disk",
)
HANGS_EACH_TIME = Mutant(
    "doctor waits for a disk that hangs with each repair again",
    Edit(
        "doctor/checks/locks.py",
        "    examination.disk_hangs = cleaned.is_unfinished\n",
        "",
    ),
    caught_by="tests/doctor/test_doctor_slow_disk.py::test_a_disk_that_hangs_is_waited_for_once_in_all",
)
TORN_REFUSED = Mutant(
    "of two doctors at once one says that it could not copy what the other has copied",
    Edit(
        "doctor/fragments.py",
        "                if self._clock.monotonic() >= deadline:\n",
        "                if True:\n",
    ),
    caught_by="tests/doctor/test_doctor_torn.py::test_a_copy_that_another_doctor_writes_is_waited_for",
)
STALE_FOR_EVER = Mutant(
    "doctor takes a lock for stale whose predecessor was",
    Edit(
        "doctor/examination.py",
        "        return Occupation.STALE if now.stale else Occupation.HELD\n",
        "        return Occupation.STALE\n",
    ),
    caught_by="tests/doctor/test_doctor_meanwhile.py::test_what_the_next_holder_of_a_stale_lock_writes_just_now_is_not_torn",
)
RELEASES_ANYBODY = Mutant(
    "release takes the session from a turn that it has not shown",
    Edit("cli/release.py", ", turn_id=held.record.turn_id", ""),
    caught_by="tests/cli/test_cli_release.py::test_so_is_a_yes_that_is_given_beforehand",
)
HEALTHY_IF_ALIVE = Mutant(
    "a lock whose holder lives is in order, however long it was held",
    Edit(
        "doctor/checks/locks.py",
        '    if "over-limit" in record.reasons:\n',
        "    if False:\n",
    ),
)
REMOVES_THE_LIVING = Mutant(
    "a fix removes the locks of the living too",
    Edit(
        "doctor/checks/locks.py",
        "        if seen.stale and examination.fix:\n",
        "        if examination.fix and not seen.stale:\n"
        "            examination.files.unlink(seen.path)\n"
        "        if seen.stale and examination.fix:\n",
    ),
)
ENDS_AT_A_CRASH = Mutant(
    "a check that raises ends them all",
    Edit(
        "doctor/examine.py",
        "        except Exception as error:",
        "        except ValueError as error:",
    ),
)
ANNOUNCED = Mutant(
    "what was to be repaired is said to be repaired",
    Edit(
        "doctor/checks/locks.py",
        "        fixed=record.removed,\n",
        "        fixed=examination.fix,\n",
    ),
)
SCANS_UNDER_THE_GUARD = Mutant(
    "a transcript that is read whole is guarded meanwhile",
    Edit(
        "doctor/scanning.py",
        "        read_at = read_at_most(examination.files, handle, size)\n",
        "        examination.files.flock(handle, 2)\n"
        "        read_at = read_at_most(examination.files, handle, size)\n",
    ),
)
MODE_UNASKED = Mutant(
    "a unit that names no kill mode is taken for one that names the right one",
    Edit(
        "doctor/checks/unit.py",
        '    mode = service.get("KillMode") or _KILL_MODE\n',
        '    mode = service.get("KillMode") or "mixed"\n',
    ),
)
CRASH_STOPS_ALL = Mutant(
    "a check that crashes stops the others",
    Edit(
        "doctor/examine.py",
        "            found.append(_crashed(examination, name, error))\n",
        "            raise\n",
    ),
    caught_by="tests/doctor/test_doctor_checks.py::test_a_check_that_crashes_stops_no_other",
)
FIXES_UNASKED = Mutant(
    "doctor removes stale locks unasked",
    Edit(
        "doctor/checks/locks.py",
        "        if seen.stale and examination.fix:\n",
        "        if seen.stale:\n",
    ),
    caught_by="tests/doctor/test_doctor_changes.py::test_without_fix_not_a_byte_or_time_stamp_changes",
)
FIXES_NOTHING = Mutant(
    "doctor --fix removes no lock",
    Edit(
        "doctor/checks/locks.py",
        "        if seen.stale and examination.fix:\n",
        "        if False:\n",
    ),
    caught_by="tests/doctor/test_doctor_changes.py::test_a_second_fix_finds_what_is_left_and_changes_nothing",
)
STALE_IS_NO_TROUBLE = Mutant(
    "doctor calls a directory with a stale lock sound",
    Edit(
        "doctor/findings.py",
        '        return self.severity != "info" and not self.fixed and not KINDS[self.check].kept\n',
        '        return self.severity == "error" and not self.fixed\n',
    ),
    caught_by="tests/doctor/test_doctor_locks.py::test_the_lock_of_a_dead_process_goes",
)
FIXED_IS_TROUBLE = Mutant(
    "doctor calls a directory broken that it has just repaired",
    Edit(
        "doctor/findings.py",
        '        return self.severity != "info" and not self.fixed and not KINDS[self.check].kept\n',
        '        return self.severity != "info" and not KINDS[self.check].kept\n',
    ),
    caught_by="tests/doctor/test_doctor_locks.py::test_the_lock_of_a_dead_process_goes",
)
SECOND_LOOK_SPARED = Mutant(
    "doctor reports a lock as stale that somebody took meanwhile",
    Edit(
        "doctor/checks/locks.py",
        '    return examination.inspector.record(place, stale_after=stale_after), ""\n',
        '    return seen, ""\n',
    ),
    caught_by="tests/doctor/test_doctor_meanwhile.py::test_a_stale_lock_that_somebody_takes_first_is_no_stale_lock",
)
OVER_LIMIT_UNSAID = Mutant(
    "doctor does not say that a live holder is past its limit",
    Edit(
        "doctor/checks/locks.py",
        '    if "over-limit" in record.reasons:\n',
        "    if False:\n",
    ),
    caught_by="tests/doctor/test_doctor_locks.py::test_a_live_holder_over_its_limit_is_for_a_person_to_release",
)
FOREIGN_UNSAID = Mutant(
    "doctor does not say that another program shares the directory",
    Edit(
        "doctor/checks/locks.py",
        "    elif file is not None:\n        yield _foreign(examination, record)\n",
        "",
    ),
    caught_by="tests/doctor/test_doctor_locks.py::test_a_live_process_without_start_time_holds_for_half_an_hour",
)
UNREADABLE_HIDES_ALL = Mutant(
    "a directory that cannot be listed is not told of",
    Edit(
        "doctor/survey.py",
        "            unreadable.append((path, error.strerror or str(error)))\n",
        "            pass\n",
    ),
    caught_by="tests/doctor/test_doctor_storage.py::test_directories_in_a_circle_are_one_finding",
)
STRAYS_OF_THE_LIVING = Mutant(
    "doctor --fix removes the temporary file of a living maker",
    Edit(
        "doctor/checks/strays.py",
        "        files.flock(handle, (fcntl.LOCK_EX if examination.fix else fcntl.LOCK_SH)"
        " | fcntl.LOCK_NB)\n",
        "",
    ),
    caught_by="tests/doctor/test_doctor_checks.py::test_a_stray_that_somebody_has_flocked_is_live",
)
YOUNG_STRAYS = Mutant(
    "doctor --fix removes a temporary file that was just made",
    Edit(
        "doctor/checks/strays.py",
        "    if young or not stat.S_ISREG(status.st_mode):\n",
        "    if not stat.S_ISREG(status.st_mode):\n",
    ),
    caught_by="tests/doctor/test_doctor_checks.py::test_a_young_stray_may_have_a_maker",
)
STRAYS_THAT_WAIT = Mutant(
    "doctor --fix removes the temporary file of a transcript whose maker waits for its disk",
    Edit(
        "doctor/checks/strays.py",
        "    limit = _YOUNG_SECONDS if _is_claims(path) else _YOUNG_TRANSCRIPT_SECONDS\n",
        "    limit = _YOUNG_SECONDS\n",
    ),
    caught_by="tests/doctor/test_doctor_checks.py::test_the_maker_of_a_transcript_may_be_waiting_for_its_disk",
)
ANOTHER_STRAY = Mutant(
    "doctor --fix does not look whether the stray is still the one",
    Edit(
        "doctor/checks/strays.py",
        "        elif os.path.samestat(files.stat_path(path), files.stat_handle(handle)):\n",
        "        else:\n",
    ),
    caught_by="tests/doctor/test_doctor_meanwhile.py::test_another_file_in_a_strays_place_is_not_removed",
)
TORN_KEPT_TWICE = Mutant(
    "doctor keeps torn bytes again at every run",
    Edit(
        "doctor/fragments.py",
        "for one in dict.fromkeys(fragments) if one not in lines]\n",
        "for one in dict.fromkeys(fragments)]\n",
    ),
    caught_by="tests/doctor/test_doctor_changes.py::test_a_second_fix_finds_what_is_left_and_changes_nothing",
)
TORN_UNSYNCED = Mutant(
    "torn bytes are kept without fsync",
    Edit("doctor/fragments.py", "                self._files.fsync(handle)\n", ""),
    caught_by="tests/files/test_durability.py::test_a_healed_copy_is_durable_before_it_takes_its_place",
)
TORN_OF_THE_HELD = Mutant(
    "doctor takes an append that is under way for a torn one",
    Edit(
        "doctor/checks/transcripts.py",
        "    if occupation is Occupation.HELD:\n        return None\n",
        "",
    ),
    caught_by="tests/doctor/test_doctor_transcripts.py::test_a_fragment_is_not_torn_while_somebody_may_be_writing_it",
)
GROWN_SINCE = Mutant(
    "doctor does not look whether somebody wrote since it read",
    Edit(
        "doctor/checks/transcripts.py",
        "    return occupation if size == reading.size else None\n",
        "    return occupation\n",
    ),
    caught_by="tests/doctor/test_doctor_meanwhile.py::test_a_fragment_that_became_an_entry_is_not_torn",
)
UNFINISHED_UNSAID = Mutant(
    "doctor does not see a turn without terminal entry",
    Edit(
        "doctor/checks/transcripts.py",
        "    if unfinished and occupation is Occupation.FREE:\n",
        "    if False:\n",
    ),
    caught_by="tests/doctor/test_doctor_transcripts.py::test_an_unfinished_turn_without_a_lock_gets_its_marker",
)
SETTLES_WHAT_HAS_GROWN = Mutant(
    "doctor marks turns in a transcript that has grown since",
    Edit(
        "doctor/settling.py",
        "    moved = held.tail.size != size\n",
        "    moved = False\n",
    ),
    caught_by="tests/doctor/test_doctor_meanwhile.py::test_a_turn_that_ended_meanwhile_gets_no_marker",
)
SETTLING_KEEPS_HOLDER = Mutant(
    "doctor says that it has settled a session that somebody holds",
    Edit(
        "doctor/settling.py",
        "    if isinstance(held, Holder):\n        held.close()\n"
        '        return "somebody holds the session now"\n',
        "    if isinstance(held, Holder):\n        held.close()\n        return None\n",
    ),
    caught_by="tests/doctor/test_doctor_meanwhile.py::test_a_session_that_somebody_takes_first_is_not_said_to_be_settled",
)
LOOSE_MODES_UNSEEN = Mutant(
    "doctor does not see files that are open to others",
    Edit("doctor/checks/modes.py", "_OTHERS = 0o077\n", "_OTHERS = 0\n"),
    caught_by="tests/doctor/test_doctor_checks.py::test_files_of_ours_that_others_may_read_are_found",
)
NETWORK_UNSEEN = Mutant(
    "doctor does not say that a directory is on a network file system",
    Edit(
        "doctor/checks/file_system.py",
        '        return "network-file-system"\n',
        "        return None\n",
    ),
    caught_by="tests/doctor/test_doctor_checks.py::test_file_locks_serve_one_host",
)
HELD_IS_FREE = Mutant(
    "a directory whose lock is held counts as nobody's",
    Edit(
        "doctor/presence.py",
        "    except BlockingIOError:\n        return True\n    except OSError:\n        return False\n"
        "    return False\n",
        "    except OSError:\n        return False\n    return False\n",
    ),
    caught_by="tests/gateway/test_gateway_owning.py::test_a_stopped_one_is_named_with_what_to_do",
)
BELIEVES_THE_FILE = Mutant(
    "what a predecessor's file says is believed against the kernel",
    Edit(
        "doctor/presence.py",
        "    if kernel is not None and not _is_of(written.claim, kernel):\n",
        "    if False:\n",
    ),
    caught_by="tests/gateway/test_gateway_owning.py::test_nobody_is_believed_for_what_stands_in_a_file",
)
REMOVES_WITHOUT_LOCK = Mutant(
    "doctor removes a gateway's files without the directory's lock",
    Edit(
        "doctor/presence.py",
        "        files.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)\n        for name",
        "        for name",
    ),
    caught_by="tests/doctor/test_doctor_checks.py::test_of_a_gateway_that_starts_just_now_nothing_is_removed",
)
STOPPED_IS_ASKED = Mutant(
    "a stopped gateway is taken for a blocked one",
    Edit(
        "doctor/live.py",
        '    elif state is not None and state[:1] in "Tt":\n',
        "    elif False:\n",
    ),
    caught_by="tests/gateway/test_gateway_owning.py::test_a_stopped_one_is_named_with_what_to_do",
)
TOKEN_TO_OTHERS = Mutant(
    "the token is sent to whatever host the file names",
    Edit(
        "doctor/connection.py",
        "        if connection.sock.getsockname()[0] != connection.sock.getpeername()[0]:\n",
        "        if False:\n",
    ),
    caught_by="tests/cli/test_cli_gateway.py::test_the_token_is_sent_to_this_host_alone",
)
LISTENS_FOR_EVER = Mutant(
    "a gateway that answers a byte a second is listened to for ever",
    Edit(
        "doctor/connection.py",
        "        connection.sock = _timed(connection.sock, deadline)\n",
        "",
    ),
    caught_by="tests/doctor/test_doctor_checks.py::test_what_a_gateway_holds_is_not_listened_to_for_ever",
)
RELEASE_BLINDLY = Mutant(
    "a release names no turn",
    Edit(
        "doctor/live.py",
        '        body = {"turn_id": turn_id, "reason": "operator"}\n',
        '        body = {"turn_id": None, "reason": "operator"}\n',
    ),
    caught_by="tests/cli/test_cli_gateway.py::test_release_is_asked_of_the_gateway_for_the_turn_that_was_shown",
)
HEALER_KEEPS_LOCK = Mutant(
    "a healer does not release",
    Edit(
        "doctor/healing.py",
        "        finally:\n            self._backend.release(held)\n",
        "        finally:\n            pass\n",
    ),
    caught_by="tests/files/test_durability.py::test_a_healed_copy_is_durable_before_it_takes_its_place",
)
HEALS_ANY_VERSION = Mutant(
    "a transcript of another version is healed",
    Edit("doctor/healing.py", "        if scan.versions:\n", "        if False:\n"),
    caught_by="tests/files/test_healing.py::test_another_version_is_not_healed",
)
DAMAGE_NOT_KEPT = Mutant(
    "a healer drops the damaged bytes",
    Edit(
        "doctor/healing.py",
        "        copy.keep([to_keep(one.offset, one.raw) for one in scan.damaged])\n",
        "        pass\n",
    ),
    caught_by="tests/files/test_healing.py::test_every_entry_stays_and_the_original_is_kept",
)
BUSY_IS_A_FAILURE = Mutant(
    "a busy session has the exit code of any failure",
    Edit("cli/exits.py", "    (SessionBusy, ExitCode.BUSY),\n", ""),
    caught_by="tests/cli/test_cli_frame.py::test_every_error_has_its_exit_code",
)
REVOKED_IS_A_FAILURE = Mutant(
    "a revoked command has the exit code of any failure",
    Edit("cli/exits.py", "    (LeaseRevoked, ExitCode.REVOKED),\n", ""),
    caught_by="tests/cli/test_cli_frame.py::test_every_error_has_its_exit_code",
)
EXEC_GROUP_LIVES = Mutant(
    "the command of a revoked turn goes on",
    Edit(
        "cli/exec.py",
        "                if turn.revoked:\n",
        "                if False:\n",
    ),
    caught_by="tests/cli/test_cli_exec.py::test_a_lock_file_removed_by_hand_ends_the_command",
)
EXEC_SIGNALS_LOST = Mutant(
    "a signal is not passed on to the command",
    Edit(
        "cli/exec.py",
        "                        group.signal(number)\n",
        "                        pass\n",
    ),
    caught_by="tests/cli/test_cli_exec.py::test_a_signal_is_passed_on_and_the_command_decides",
)
EXEC_ENDS_WELL = Mutant(
    "a command that fails is a turn that ended well",
    Edit("cli/exec.py", "    if code == 0:\n        return\n", "    return\n"),
    caught_by="tests/cli/test_cli_exec.py::test_a_command_that_fails_leaves_a_marker_and_its_code",
)
