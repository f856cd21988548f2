"""Faults of the claim: what it says, the verdict on it, how it is put down and taken away."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

# The verdict

YOUNG_IS_STALE = Mutant(
    "a claim that cannot be read is stale at once",
    Edit(
        "backends/files/judgement.py",
        "        old = evidence.file_age > UNREADABLE_GRACE\n",
        "        old = True\n",
    ),
)
UNREADABLE_FOR_EVER = Mutant(
    "a claim that cannot be read is never stale",
    Edit(
        "backends/files/judgement.py",
        "        old = evidence.file_age > UNREADABLE_GRACE\n",
        "        old = False\n",
    ),
)
ANY_VERSION = Mutant(
    "a claim of a version to come is judged as one of ours",
    Edit(
        "backends/files/judgement.py",
        "    if not claim.is_known_version:\n",
        "    if False:\n",
    ),
)
OTHER_HOST_IS_DEAD = Mutant(
    "a holder of another host counts as dead",
    Edit(
        "backends/files/judgement.py",
        '    return Verdict(State.UNKNOWN, PidStatus.UNKNOWN, ("other-host",))\n\n\n',
        '    return Verdict(State.STALE, PidStatus.DEAD, ("other-boot",))\n\n\n',
    ),
)
FOREIGN_HOST_UNSEEN = Mutant(
    "the host that another program's claim names is not compared",
    Edit(
        "backends/files/judgement.py",
        "    if claim.host not in (None, here.host):\n",
        "    if False:\n",
    ),
)
NAMESPACE_UNSEEN = Mutant(
    "the pid namespace that another program's claim names is not compared",
    Edit(
        "backends/files/judgement.py",
        "    if claim.pid_namespace not in (None, here.pid_namespace):\n",
        "    if False:\n",
    ),
)
PID_NOT_ELSEWHERE = Mutant(
    "nobody looks whether another pid namespace has the number",
    Edit(
        "backends/files/judgement.py", "        if evidence.pid_elsewhere:\n", "        if False:\n"
    ),
)
SHORTER_OF_TWO = Mutant(
    "another program's claim is too old by the shorter of two limits",
    Edit(
        "backends/files/judgement.py",
        "    if age > max(stale_after, claim.max_hold or 0.0):\n",
        "    if age > min(stale_after, claim.max_hold or stale_after):\n",
    ),
)
NEVER_TOO_OLD = Mutant(
    "another program's claim without start time is live at any age",
    Edit(
        "backends/files/judgement.py",
        "    if age > max(stale_after, claim.max_hold or 0.0):\n",
        "    if False:\n",
    ),
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
)
NO_GRACE = Mutant(
    "a waiter gives a live holder's own watchdog no time",
    Edit(
        "backends/files/waiting.py",
        "    return judged.age > judged.limit + OVER_LIMIT_GRACE\n",
        "    return judged.age > judged.limit\n",
    ),
)
HELD_BY_FOREIGN_PAST_LIMIT = Mutant(
    "a waiter takes from a live program that is not Turnlock",
    Edit(
        "backends/files/waiting.py",
        "    if not judged.claim.is_ours or not judged.verdict.over_limit:\n",
        "    if not judged.verdict.over_limit:\n",
    ),
)

# Looking

ABSENT_ON_ERROR = Mutant(
    "a lock that cannot be opened counts as absent",
    Edit(
        "backends/files/inspect.py",
        '            raise StoreError(path, "open", error.strerror or str(error)) from error\n',
        "            return None\n",
    ),
)
UNSEEN_ON_ERROR = Mutant(
    "a path that cannot be looked at names nothing",
    Edit(
        "backends/files/inspect.py",
        "        status = files.stat_path(path)\n    except FileNotFoundError:\n",
        "        status = files.stat_path(path)\n    except OSError:\n",
    ),
)
FORBIDDEN_IS_ABSENT = Mutant(
    "a lock that may not be read counts as absent",
    Edit(
        "backends/files/inspect.py",
        '                raise LockPathError(path, "it cannot be read: permission denied")'
        " from error\n",
        "                return None\n",
    ),
)
EXCLUSIVE_LOOK = Mutant(
    "who only looks probes with an exclusive flock",
    Edit(
        "backends/files/inspect.py",
        "        kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH\n",
        "        kind = fcntl.LOCK_EX\n",
    ),
)
PROBE_KEPT = Mutant(
    "a look keeps its flock until it is through",
    Edit(
        "backends/files/inspect.py",
        "        if not exclusive:\n            self._files.flock(handle, fcntl.LOCK_UN)\n",
        "",
    ),
)
WAITER_KEEPS_PROBE = Mutant(
    "a waiter keeps the flock of a claim that it found free",
    Edit(
        "backends/files/inspect.py",
        "            return False\n        self._files.flock(handle, fcntl.LOCK_UN)\n"
        "        return True\n",
        "            return False\n        return True\n",
    ),
)
KEEPS_WHAT_IT_LEAVES = Mutant(
    "a taker keeps the flock of a claim that it may not take",
    Edit(
        "backends/files/inspect.py",
        "        if to_take and not held and verdict.state is not State.STALE:\n",
        "        if False:\n",
    ),
)
ANY_OBJECT = Mutant(
    "what lies at the lock path need not be a regular file",
    Edit(
        "backends/files/inspect.py",
        "            if not stat.S_ISREG(status.st_mode):\n                raise LockPathError(place",
        "            if False:\n                raise LockPathError(place",
    ),
)
THROUGH_LINKS = Mutant(
    "symbolic links are followed",
    Edit(
        "backends/files/fileops.py",
        "os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)",
        "os.O_RDONLY | os.O_NONBLOCK)",
    ),
)
ACCESS_TIMES = Mutant(
    "a look changes access times",
    Edit(
        "backends/files/fileops.py",
        'flags | getattr(os, "O_NOATIME", 0))',
        "flags)",
    ),
)

# What a claim says

PID_OF_PARENT = Mutant(
    "a forked child writes its parent's pid",
    Edit(
        "backends/files/claim.py",
        "        if self._pid != os.getpid():\n",
        "        if self._pid < 0:\n",
    ),
)
OWED_FORGOTTEN = Mutant(
    "a claim does not say what its predecessors owe",
    Edit(
        "backends/files/claim.py",
        'if owed else "[]"\n',
        'if False else "[]"\n',
    ),
)
OWED_OF_OTHERS_DROPPED = Mutant(
    "who supersedes a claim forgets what that one owed",
    Edit(
        "backends/files/claims.py",
        "        owed = (*claim.owed, Superseded(turn_id, claim.pid, reason, judged.age))\n",
        "        owed = (Superseded(turn_id, claim.pid, reason, judged.age),)\n",
    ),
)
TRUE_IS_ONE = Mutant(
    "true is a number",
    Edit(
        "backends/files/claim.py",
        "    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:\n",
        "    if isinstance(value, int) and least <= value <= most:\n",
    ),
)
NO_BOUND = Mutant(
    "numbers of a claim have no bounds",
    Edit(
        "backends/files/claim.py",
        "    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:\n",
        "    if isinstance(value, int) and not isinstance(value, bool):\n",
    ),
)
OPEN_TO_OTHERS = Mutant(
    "files of ours are open to other users",
    Edit(
        "backends/files/fileops.py",
        "flags: int, mode: int = 0o600)",
        "flags: int, mode: int = 0o644)",
    ),
)
DIRECTORIES_OPEN = Mutant(
    "directories of ours are open to other users",
    Edit(
        "backends/files/fileops.py",
        "path: str, mode: int = 0o700)",
        "path: str, mode: int = 0o755)",
    ),
)

# Put down, superseded, released

UNLOCKED_CLAIM = Mutant(
    "a claim is put down without its flock",
    Edit(
        "backends/files/claims.py",
        "content, flocked=True)",
        "content, flocked=False)",
    ),
)
CLOSED_ON_REVOKE = Mutant(
    "the descriptor of a revoked claim is closed",
    Edit(
        "backends/files/backend.py",
        "            return taken and self._begun_unless_lost(taken, request)\n\n    def reclaim",
        "            if lease is not None:\n"
        "                lease.claim.close()\n"
        "            return taken and self._begun_unless_lost(taken, request)\n\n    def reclaim",
    ),
)
CLOSED_ON_RELEASE = Mutant(
    "the descriptor of a released claim is closed",
    Edit(
        "backends/files/backend.py",
        "        lease.released = True\n        # Last, as the session",
        "        lease.released = True\n        lease.claim.close()\n        # Last, as the session",
    ),
)
SUPERSEDES_UNGUARDED = Mutant(
    "a claim is superseded without the guard",
    Edit(
        "backends/files/claims.py",
        "            with self._transcripts.guarded(place):\n",
        "            if True:\n",
    ),
)
RELEASES_UNGUARDED = Mutant(
    "a claim is removed without the guard",
    Edit(
        "backends/files/backend.py",
        "        with self._transcripts.guard(place, transcript):\n            fingerprint =",
        "        if True:\n            fingerprint =",
    ),
)
FREES_UNGUARDED = Mutant(
    "a claim without a transcript is removed without the guard",
    Edit(
        "backends/files/claims.py",
        "        with self._transcripts.guarded(lease.place, lenient=True):\n            removed",
        "        if True:\n            removed",
    ),
)
ASIDE_UNGUARDED = Mutant(
    "another program's lock is moved aside without the guard",
    Edit(
        "backends/files/claims.py",
        "            with self._transcripts.guarded(place, lenient=True):\n                moved",
        "            if True:\n                moved",
    ),
)
ASIDE_UNSEEN = Mutant(
    "nobody looks what was moved aside",
    Edit(
        "backends/files/aside.py",
        "    if file_id(files.stat_path(aside)) == wanted:\n        return True\n",
        "    return True\n",
    ),
)
ANY_TURN_IS_REVOKED = Mutant(
    "a revocation takes the session from whoever holds it by then",
    Edit(
        "backends/files/backend.py",
        "            another = lease is not None and judged.id != lease.claim_id\n",
        "            another = False\n",
    ),
)
ANY_TURN_IS_RELEASED = Mutant(
    "a release of one turn takes the session from another",
    Edit(
        "backends/files/backend.py",
        "            if another or turn_id not in (judged.claim.turn_id, Whose.ANYONES):\n",
        "            if another:\n",
    ),
)
UNKNOWN_IS_TAKEN = Mutant(
    "a holder of whom nobody knows whether it lives is superseded",
    Edit(
        "backends/files/backend.py",
        "            if judged.verdict.state in (State.UNKNOWN, State.YOUNG):\n",
        "            if judged.verdict.state is State.YOUNG:\n",
    ),
)
LIVE_FOREIGN_IS_TAKEN = Mutant(
    "a live program that is not Turnlock is superseded within its limit",
    Edit(
        "backends/files/backend.py",
        "    return not is_foreign or judged.verdict.over_limit\n",
        "    return True\n",
    ),
)
LIVE_IS_RECLAIMED = Mutant(
    "what was stale when it was listed is reclaimed, live or not",
    Edit(
        "backends/files/backend.py",
        "            if judged.verdict.state is not State.STALE:\n",
        "            if False:\n",
    ),
)
FULL_DISK_FENCES_NOBODY = Mutant(
    "a revocation fails where there is no room for a claim",
    Edit(
        "backends/files/backend.py",
        "                if lease is None or error.errno not in _NO_ROOM:\n",
        "                if True:\n",
    ),
)
NOT_LET_GO = Mutant(
    "a release that fails leaves the flock on the claim",
    Edit(
        "backends/files/backend.py",
        "                lease.released = True\n"
        "                self._files.flock(lease.claim, fcntl.LOCK_UN)\n"
        "                if lease.transcript",
        "                lease.released = True\n                if lease.transcript",
    ),
)
OWING_CLAIM_LOCKED = Mutant(
    "a claim that is left for what it owes keeps its flock",
    Edit(
        "backends/files/backend.py",
        "            lease.released = True\n            self._files.flock(lease.claim, fcntl.LOCK_UN)\n",
        "            lease.released = True\n",
    ),
)
LINK_LEAKS = Mutant(
    "a claim that finds its name taken stays open",
    Edit(
        "backends/files/claims.py",
        "            raise\n        newborn.discard()\n        return None\n",
        "            raise\n        self.__dict__.setdefault('kept', []).append(newborn)\n"
        "        return None\n",
    ),
)
STRAYS_STAY = Mutant(
    "a temporary file is not removed",
    Edit(
        "backends/files/birth.py",
        "            self._files.unlink(self.temporary)\n            self.temporary = None\n",
        "            self.temporary = None\n",
    ),
)
NAME_TAKEN_IS_MINE = Mutant(
    "a claim whose name is taken counts as put down",
    Edit(
        "backends/files/birth.py",
        "        except FileExistsError:\n            return False\n        self._drop",
        "        except FileExistsError:\n            return True\n        self._drop",
    ),
)
NO_OWNER = Mutant(
    "what root makes is root's",
    Edit(
        "backends/files/birth.py",
        "        if owner[0] != 0:\n            self._files.chown(handle, *owner)\n",
        "",
    ),
)
