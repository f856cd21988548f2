"""Faults of the claim: what it says, the verdict on it, how it is put down and taken away."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

# The verdict

YOUNG_IS_STALE = Mutant(
    "a claim that cannot be read is stale at once",
    Edit(
        "backends/files/judgement.py",
        "    old = evidence.file_age > UNREADABLE_GRACE\n",
        "    old = True\n",
    ),
    caught_by="tests/files/test_aside.py::test_what_nobody_here_can_judge_is_unknown",
)
UNREADABLE_FOR_EVER = Mutant(
    "a claim that cannot be read is never stale",
    Edit(
        "backends/files/judgement.py",
        "    old = evidence.file_age > UNREADABLE_GRACE\n",
        "    old = False\n",
    ),
    caught_by="tests/files/test_judgement.py::test_verdict",
)
ANY_VERSION = Mutant(
    "a claim of a version to come is judged as one of ours",
    Edit(
        "backends/files/judgement.py",
        "    if not claim.is_known_version:\n",
        "    if False:\n",
    ),
    caught_by="tests/files/test_judgement.py::test_verdict",
)
OTHER_HOST_IS_DEAD = Mutant(
    "a holder of another host counts as dead",
    Edit(
        "backends/files/judgement.py",
        '    return Verdict(State.UNKNOWN, PidStatus.UNKNOWN, ("other-host",))\n\n\n',
        '    return Verdict(State.STALE, PidStatus.DEAD, ("other-boot",))\n\n\n',
    ),
    caught_by="tests/files/test_judgement.py::test_verdict",
)
FOREIGN_HOST_UNSEEN = Mutant(
    "the host that another program's claim names is not compared",
    Edit(
        "backends/files/judgement.py",
        "    if claim.host not in (None, here.host):\n",
        "    if False:\n",
    ),
    caught_by="tests/files/test_judgement.py::test_verdict",
)
NAMESPACE_UNSEEN = Mutant(
    "the pid namespace that another program's claim names is not compared",
    Edit(
        "backends/files/judgement.py",
        "    if claim.pid_namespace not in (None, here.pid_namespace):\n",
        "    if False:\n",
    ),
    caught_by="tests/files/test_judgement.py::test_verdict",
)
PID_NOT_ELSEWHERE = Mutant(
    "nobody looks whether another pid namespace has the number",
    Edit(
        "backends/files/judgement.py", "        if evidence.pid_elsewhere:\n", "        if False:\n"
    ),
    caught_by="tests/files/test_judgement.py::test_verdict",
)
SHORTER_OF_TWO = Mutant(
    "another program's claim is too old by the shorter of two limits",
    Edit(
        "backends/files/judgement.py",
        "    if age > max(stale_after, claim.max_hold or 0.0):\n",
        "    if age > min(stale_after, claim.max_hold or stale_after):\n",
    ),
    caught_by="tests/files/test_judgement.py::test_verdict",
)
NEVER_TOO_OLD = Mutant(
    "another program's claim without start time is live at any age",
    Edit(
        "backends/files/judgement.py",
        "    if age > max(stale_after, claim.max_hold or 0.0):\n",
        "    if False:\n",
    ),
    caught_by="tests/files/test_judgement.py::test_verdict",
)
OVER_LIMIT_IS_STALE = Mutant(
    "a live holder past its limit is stale, for doctor and clean-up too",
    Edit(
        "backends/files/judgement.py",
        "        return Verdict(State.LIVE, PidStatus.ALIVE, _over_limit(claim, evidence))\n"
        "    here = evidence.here\n",
        "        over = _over_limit(claim, evidence)\n"
        "        return Verdict(State.STALE if over else State.LIVE, PidStatus.ALIVE, over)\n"
        "    here = evidence.here\n",
    ),
    caught_by="tests/files/test_judgement.py::test_verdict",
)
NO_GRACE = Mutant(
    "a waiter gives a live holder's own watchdog no time",
    Edit(
        "backends/files/waiting.py",
        "    return judged.age >= judged.limit + OVER_LIMIT_GRACE\n",
        "    return judged.age >= judged.limit\n",
    ),
    caught_by="tests/conformance/test_backend.py::test_a_holder_past_its_limit_is_superseded_after_the_grace",
)
HELD_BY_FOREIGN_PAST_LIMIT = Mutant(
    "a waiter takes from a live program that is not Turnlock",
    Edit(
        "backends/files/waiting.py",
        "    if not judged.claim.is_ours or not judged.verdict.over_limit:\n",
        "    if not judged.verdict.over_limit:\n",
    ),
    caught_by="tests/files/test_openclaw.py::test_a_live_owner_is_kept_at_any_age",
)

# Looking

ABSENT_ON_ERROR = Mutant(
    "a lock that cannot be opened counts as absent",
    Edit(
        "backends/files/inspect.py",
        '            raise StoreError(path, "open", error.strerror or str(error)) from error\n',
        "            return None\n",
    ),
    caught_by="tests/files/test_objects.py::test_a_read_error_is_no_absence",
)
UNSEEN_ON_ERROR = Mutant(
    "a path that cannot be looked at names nothing",
    Edit(
        "backends/files/inspect.py",
        "        status = files.stat_path(path)\n    except FileNotFoundError:\n",
        "        status = files.stat_path(path)\n    except OSError:\n",
    ),
    caught_by="tests/files/test_looks.py::test_a_disk_that_cannot_look_at_a_lock_takes_it_from_nobody",
)
FORBIDDEN_IS_ABSENT = Mutant(
    "a lock that may not be read counts as absent",
    Edit(
        "backends/files/inspect.py",
        '                raise LockPathError(path, "it cannot be read: permission denied")'
        " from error\n",
        "                return None\n",
    ),
    caught_by="tests/files/test_looks.py::test_a_lock_that_may_not_be_read_is_there",
)
EXCLUSIVE_LOOK = Mutant(
    "who only looks probes with an exclusive flock",
    Edit(
        "backends/files/inspect.py",
        "        kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH\n",
        "        kind = fcntl.LOCK_EX\n",
    ),
    caught_by="tests/files/test_looks.py::test_two_who_look_at_once_do_not_take_each_other_for_the_holder",
)
PROBE_KEPT = Mutant(
    "a look keeps its flock until it is through",
    Edit(
        "backends/files/inspect.py",
        "        if not exclusive:\n            self._files.flock(handle, fcntl.LOCK_UN)\n",
        "",
    ),
    caught_by="tests/files/test_looks.py::test_who_has_looked_keeps_nobody_from_taking_what_is_stale",
)
WAITER_KEEPS_PROBE = Mutant(
    "a waiter keeps the flock of a claim that it found free",
    Edit(
        "backends/files/inspect.py",
        "            return False\n        self._files.flock(handle, fcntl.LOCK_UN)\n"
        "        return True\n",
        "            return False\n        return True\n",
    ),
    caught_by="tests/files/test_looks.py::"
    "test_a_waiter_that_finds_its_holder_dead_keeps_nobody_from_the_claim",
)
KEEPS_WHAT_IT_LEAVES = Mutant(
    "a taker keeps the flock of a claim that it may not take",
    Edit(
        "backends/files/inspect.py",
        "        if to_take and not held and verdict.state is not State.STALE:\n",
        "        if False:\n",
    ),
    caught_by="tests/files/test_looks.py::test_a_taker_that_may_not_take_keeps_nobody_else_from_it",
)
ANY_OBJECT = Mutant(
    "what lies at the lock path need not be a regular file",
    Edit(
        "backends/files/inspect.py",
        "                if not stat.S_ISREG(status.st_mode):\n"
        "                    raise LockPathError(place",
        "                if False:\n                    raise LockPathError(place",
    ),
    caught_by="tests/files/test_objects.py::test_what_is_no_claim_is_an_error_and_left_alone",
)
THROUGH_LINKS = Mutant(
    "symbolic links are followed",
    Edit(
        "backends/files/fileops.py",
        "os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)",
        "os.O_RDONLY | os.O_NONBLOCK)",
    ),
    caught_by="tests/files/test_objects.py::test_what_is_no_claim_is_an_error_and_left_alone",
)
ACCESS_TIMES = Mutant(
    "a look changes access times",
    Edit(
        "backends/files/fileops.py",
        'flags | getattr(os, "O_NOATIME", 0))',
        "flags)",
    ),
    caught_by="tests/doctor/test_doctor_changes.py::test_without_fix_not_a_byte_or_time_stamp_changes",
)

# What a claim says

PID_OF_PARENT = Mutant(
    "a forked child writes its parent's pid",
    Edit(
        "backends/files/claim.py",
        "        if self._pid != os.getpid():\n",
        "        if self._pid < 0:\n",
    ),
    caught_by="tests/files/test_handing_over.py::test_a_forked_child_takes_the_sessions_of_its_parent_under_its_own_pid",
)
OWED_FORGOTTEN = Mutant(
    "a claim does not say what its predecessors owe",
    Edit(
        "backends/files/claim.py",
        'if owed else "[]"\n',
        'if False else "[]"\n',
    ),
    caught_by="tests/files/test_protocol.py::test_a_take_that_fails_after_it_superseded_owes_on",
)
OWED_OF_OTHERS_DROPPED = Mutant(
    "who supersedes a claim forgets what that one owed",
    Edit(
        "backends/files/claims.py",
        "        owed = (*before, turn)\n",
        "        owed = (turn,)\n",
    ),
    caught_by="tests/files/test_protocol.py::test_a_take_that_fails_after_it_superseded_owes_on",
)
TRUE_IS_ONE = Mutant(
    "true is a number",
    Edit(
        "backends/files/claim.py",
        "    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:\n",
        "    if isinstance(value, int) and least <= value <= most:\n",
    ),
    caught_by="tests/files/test_judgement.py::test_a_pid_that_is_none_makes_the_claim_unreadable",
)
NO_BOUND = Mutant(
    "numbers of a claim have no bounds",
    Edit(
        "backends/files/claim.py",
        "    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:\n",
        "    if isinstance(value, int) and not isinstance(value, bool):\n",
    ),
    caught_by="tests/files/test_judgement.py::test_a_pid_that_is_none_makes_the_claim_unreadable",
)
OPEN_TO_OTHERS = Mutant(
    "files of ours are open to other users",
    Edit(
        "backends/files/fileops.py",
        "flags: int, mode: int = 0o600)",
        "flags: int, mode: int = 0o644)",
    ),
    caught_by="tests/files/test_objects.py::test_what_is_made_is_private",
)
DIRECTORIES_OPEN = Mutant(
    "directories of ours are open to other users",
    Edit(
        "backends/files/fileops.py",
        "path: str, mode: int = 0o700)",
        "path: str, mode: int = 0o755)",
    ),
    caught_by="tests/files/test_objects.py::test_what_is_made_is_private",
)

# Put down, superseded, released

UNLOCKED_CLAIM = Mutant(
    "a claim is put down without its flock",
    Edit(
        "backends/files/claims.py",
        "content, flocked=True)",
        "content, flocked=False)",
    ),
    caught_by="tests/files/test_protocol.py::test_a_take_that_was_revoked_before_it_began_does_not_begin",
)
CLOSED_ON_REVOKE = Mutant(
    "the descriptor of a revoked claim is closed",
    Edit(
        "backends/files/backend.py",
        "            return taken and self._begun_unless_lost(taken, request, missing)\n",
        "            if lease is not None:\n"
        "                lease.claim.close()\n"
        "            return taken and self._begun_unless_lost(taken, request, missing)\n",
    ),
    caught_by="tests/files/test_handing_over.py::test_a_revoked_lease_is_never_mistaken_for_a_successors",
)
CLOSED_ON_RELEASE = Mutant(
    "the descriptor of a released claim is closed",
    Edit(
        "backends/files/backend.py",
        "        lease.released = True\n        # Last, as the session",
        "        lease.released = True\n        lease.claim.close()\n        # Last, as the session",
    ),
    caught_by="tests/files/test_handing_over.py::test_who_revokes_a_lease_that_was_released_takes_nothing_from_a_successor",
)
SUPERSEDES_UNGUARDED = Mutant(
    "a claim is superseded without the guard",
    Edit(
        "backends/files/claims.py",
        "            with self._transcripts.guarded(place):\n",
        "            if True:\n",
    ),
    caught_by="tests/files/test_protocol.py::test_of_two_that_take_a_lock_without_transcript_one_loses",
)
RELEASES_UNGUARDED = Mutant(
    "a claim is removed without the guard",
    Edit(
        "backends/files/backend.py",
        "        with self._transcripts.guard(place, transcript):\n            fingerprint =",
        "        if True:\n            fingerprint =",
    ),
    caught_by="tests/files/test_handing_over.py::test_a_release_that_is_stopped_before_its_unlink_removes_no_successors_lock",
)
FREES_UNGUARDED = Mutant(
    "a claim without a transcript is removed without the guard",
    Edit(
        "backends/files/claims.py",
        "        with self._transcripts.guarded(lease.place, lenient=True):\n            removed",
        "        if True:\n            removed",
    ),
    caught_by="tests/files/test_protocol.py::test_clean_up_that_is_stopped_in_its_release_removes_no_successors_lock",
)
ASIDE_UNGUARDED = Mutant(
    "another program's lock is moved aside without the guard",
    Edit(
        "backends/files/claims.py",
        "            with self._transcripts.guarded(place, lenient=True):\n                moved",
        "            if True:\n                moved",
    ),
    caught_by="tests/files/test_handing_over.py::test_nobody_of_ours_takes_a_lock_while_it_is_moved_aside",
)
ASIDE_UNSEEN = Mutant(
    "nobody looks what was moved aside",
    Edit(
        "backends/files/aside.py",
        "    if file_id(files.stat_path(aside)) == wanted:\n        return True\n",
        "    return True\n",
    ),
    caught_by="tests/files/test_aside.py::test_a_lock_that_changes_hands_under_the_rename_gets_its_name_back",
)
ANY_TURN_IS_REVOKED = Mutant(
    "a revocation takes the session from whoever holds it by then",
    Edit(
        "backends/files/backend.py",
        "            another = lease is not None and judged.id != lease.claim_id\n",
        "            another = False\n",
    ),
    caught_by="tests/conformance/test_backend.py::test_superseding_a_lease_that_is_gone_does_nothing",
)
ANY_TURN_IS_RELEASED = Mutant(
    "a release of one turn takes the session from another",
    Edit(
        "backends/files/backend.py",
        "            if another or turn_id not in (judged.claim.turn_id, Whose.ANYONES):\n",
        "            if another:\n",
    ),
    caught_by="tests/conformance/test_looking.py::test_another_turn_than_the_named_one_is_left_alone",
)
UNKNOWN_IS_TAKEN = Mutant(
    "a holder of whom nobody knows whether it lives is superseded",
    Edit(
        "backends/files/backend.py",
        "    if judged.verdict.state in (State.UNKNOWN, State.YOUNG):\n",
        "    if judged.verdict.state is State.YOUNG:\n",
    ),
    caught_by="tests/files/test_handing_over.py::test_a_holder_of_whom_nobody_knows_whether_it_lives_is_not_revoked",
)
LIVE_FOREIGN_IS_TAKEN = Mutant(
    "a live program that is not Turnlock is superseded within its limit",
    Edit(
        "backends/files/backend.py",
        "    if is_foreign and not judged.verdict.over_limit:\n",
        "    if False:\n",
    ),
    caught_by="tests/files/test_openclaw.py::test_a_live_owner_is_not_robbed_within_its_limit",
)
LIVE_IS_RECLAIMED = Mutant(
    "what was stale when it was listed is reclaimed, live or not",
    Edit(
        "backends/files/backend.py",
        "            if judged.verdict.state is not State.STALE:\n",
        "            if False:\n",
    ),
    caught_by="tests/files/test_handing_over.py::test_what_was_stale_when_it_was_listed_and_is_held_by_now_is_left_alone",
)
FULL_DISK_FENCES_NOBODY = Mutant(
    "a revocation fails where there is no room for a claim",
    Edit(
        "backends/files/backend.py",
        "                if lease is None or error.errno not in _NO_ROOM:\n",
        "                if True:\n",
    ),
    caught_by="tests/files/test_faults.py::test_a_hung_turn_is_revoked_on_a_full_disk_too",
)
FREED_IS_AN_ERROR = Mutant(
    "a turn whose claim is removed fails where its guard is not dropped at once",
    Edit(
        "backends/files/claims.py",
        "        lease.released = True\n        return True\n",
        "        return True\n",
    ),
    caught_by="tests/files/test_faults.py::"
    "test_a_turn_that_gave_its_session_back_ended_well_whatever_the_guard_does",
)
NOT_LET_GO = Mutant(
    "a release that fails leaves the flock on the claim",
    Edit(
        "backends/files/backend.py",
        "            self._files.flock(lease.claim, fcntl.LOCK_UN)\n            if lease.transcript",
        "            if lease.transcript",
    ),
    caught_by="tests/files/test_handing_over.py::test_a_lock_that_cannot_be_removed_is_at_least_dead",
)
OWING_CLAIM_LOCKED = Mutant(
    "a claim that is left for what it owes keeps its flock",
    Edit(
        "backends/files/backend.py",
        "            lease.released = True\n            self._files.flock(lease.claim, fcntl.LOCK_UN)\n\n",
        "            lease.released = True\n\n",
    ),
    caught_by="tests/files/test_handing_over.py::test_a_claim_that_is_left_for_what_it_owes_is_dead_at_once",
)
LINK_LEAKS = Mutant(
    "a claim that finds its name taken stays open",
    Edit(
        "backends/files/claims.py",
        "            raise\n        newborn.discard()\n        return None\n",
        "            raise\n        self.__dict__.setdefault('kept', []).append(newborn)\n"
        "        return None\n",
    ),
    caught_by="tests/files/test_handing_over.py::test_who_finds_a_session_busy_keeps_nothing_open",
)
STRAYS_STAY = Mutant(
    "a temporary file is not removed",
    Edit(
        "backends/files/birth.py",
        "            self._files.unlink(self.temporary)\n            self.temporary = None\n",
        "            self.temporary = None\n",
    ),
    caught_by="tests/files/test_claim_file.py::test_release_leaves_nothing_but_the_transcript",
)
NAME_TAKEN_IS_MINE = Mutant(
    "a claim whose name is taken counts as put down",
    Edit(
        "backends/files/birth.py",
        "        except FileExistsError:\n            return False\n        self._drop",
        "        except FileExistsError:\n            return True\n        self._drop",
    ),
    caught_by="tests/files/test_claim_file.py::"
    "test_a_claim_that_says_too_much_is_superseded_by_one_that_can_be_read",
)
NO_OWNER = Mutant(
    "what root makes is root's",
    Edit(
        "backends/files/birth.py",
        "        if owner[0] != 0:\n            give_to(self._files, handle, *owner)\n",
        "",
    ),
    caught_by="tests/files/test_handing_over.py::test_what_root_makes_belongs_to_whom_the_directory_belongs",
)
