"""Faults of the lock on files: verdicts, claims, descriptors, storage, waiting."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant, appended

# The verdict on a claim

DEAD_IS_HELD = Mutant(
    "a claim whose flock is free counts as held",
    Edit(
        "backends/files/judgement.py",
        "    if claim.boot_id == here.boot_id:\n        return Verdict(State.STALE,",
        "    if claim.boot_id == here.boot_id:\n        return Verdict(State.LIVE,",
    ),
)
PID_ALONE = Mutant(
    "a claim is judged by its pid alone",
    Edit(
        "backends/files/judgement.py",
        "    if evidence.flock_held:\n",
        '    if __import__("os").path.exists(f"/proc/{claim.pid}"):\n',
    ),
)
NO_START_TIME = Mutant(
    "the start time of a process is not compared",
    Edit(
        "backends/files/judgement.py",
        "        if claim.start_time != process.start_time:\n",
        "        if False:\n",
    ),
)
OTHER_BOOT_IS_HELD = Mutant(
    "a claim of another boot counts as held",
    Edit(
        "backends/files/judgement.py",
        "    if claim.host == here.host:\n        return Verdict(State.STALE,",
        "    if claim.host == here.host:\n        return Verdict(State.LIVE,",
    ),
)
NAMED_PYTHON = Mutant(
    "a holder has to be called python",
    Edit(
        "backends/files/judgement.py",
        "    if evidence.flock_held:\n",
        "    if evidence.flock_held and"
        ' "python" in open(f"/proc/{claim.pid}/comm", encoding="utf-8").read():\n',
    ),
)
ZOMBIES_LIVE = Mutant(
    "a process in state Z counts as alive",
    Edit("backends/files/process.py", '        if fields[0] in "ZX":\n', "        if False:\n"),
)
NEVER_PAST_GRACE = Mutant(
    "a waiter never takes from a holder past its limit",
    Edit(
        "backends/files/waiting.py",
        "    return judged.age >= judged.limit + OVER_LIMIT_GRACE\n",
        "    return False\n",
    ),
)
WALL_CLOCK_AGES = Mutant(
    "ages on the same boot come from the wall clock",
    Edit(
        "backends/files/inspect.py",
        "        if claim.monotonic is not None and claim.boot_id == self.here.boot_id:\n",
        "        if False:\n",
    ),
)
FUTURE_IS_YOUNG = Mutant(
    "a time stamp to come makes a claim young for ever",
    Edit(
        "backends/files/inspect.py",
        "        return age if age >= 0 else max(0.0, self._clock.wall() - status.st_mtime)\n",
        "        return age\n",
    ),
)

# Looking at the lock path

READ_ERROR_IS_EMPTY = Mutant(
    "a lock that cannot be read counts as empty",
    Edit(
        "backends/files/inspect.py",
        '            raise StoreError(path, "read", error.strerror or str(error)) from error\n',
        '            return b""\n',
    ),
)
ONLY_JSON_ERRORS = Mutant(
    "only what json calls an error is malformed",
    Edit(
        "backends/files/claim.py",
        "    except (ValueError, RecursionError):\n",
        "    except json.JSONDecodeError:\n",
    ),
)
BLOCKING_OPEN = Mutant(
    "lock paths are opened blocking",
    Edit(
        "backends/files/fileops.py",
        "os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)",
        "os.O_RDONLY | os.O_NOFOLLOW)",
    ),
)

# Claims

NAMED_BEFORE_WRITTEN = Mutant(
    "a claim has its name before it says whose it is",
    appended(
        "backends/files/birth.py",
        """
        def _make_in_place(self, directory, beside, content, *, flocked):
            if not flocked:
                return _make_whole(self, directory, beside, content, flocked=flocked)
            try:
                handle = self._files.open(beside, _READ_WRITE | os.O_CREAT | os.O_EXCL)
            except FileExistsError:
                return _make_whole(self, directory, beside, content, flocked=flocked)
            newborn = Newborn(self._files, self, handle, None)
            newborn._is_named = True
            write_all(self._files, handle, content)
            self._files.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return newborn

        _make_whole, Nursery.make = Nursery.make, _make_in_place
        _link, Newborn.link = (
            Newborn.link,
            lambda self, path: getattr(self, "_is_named", False) or _link(self, path),
        )
        """,
    ),
    Edit(
        "backends/files/birth.py",
        '    __slots__ = ("_files", "_nursery", "handle", "temporary")\n',
        '    __slots__ = ("_files", "_is_named", "_nursery", "handle", "temporary")\n',
    ),
)
RENAME_UNSEEN = Mutant(
    "a claim is renamed over whatever the path names by then",
    Edit(
        "backends/files/claims.py",
        "        if named_file(self._files, place.lock) != wanted:\n",
        "        if named_file(self._files, place.lock) is None:\n",
    ),
)
BREAKS_BY_PATH = Mutant(
    "a stale claim is unlinked by its path, and then taken",
    Edit(
        "backends/files/claims.py",
        "        if named_file(self._files, place.lock) != wanted:\n            return False\n"
        "        newborn.rename_over(place.lock)\n",
        "        import contextlib, time\n"
        "        with contextlib.suppress(FileNotFoundError):\n"
        "            self._files.unlink(place.lock)\n"
        "        time.sleep(0.0005)\n"
        "        newborn.rename_over(place.lock)\n",
    ),
)
LOCKS_NOTHING = Mutant(
    "a claim that is there keeps nobody out",
    Edit(
        "backends/files/backend.py",
        '    return "hold-limit" if is_past_grace(judged) else None\n',
        '    return "hold-limit"\n',
    ),
)
UNLINK_BY_PATH = Mutant(
    "a release unlinks whatever the path names",
    Edit(
        "backends/files/claims.py",
        "        if not self.is_held(lease):\n            return False\n",
        "",
    ),
)
NO_FENCE = Mutant(
    "an append does not check the fence",
    Edit(
        "backends/files/claims.py",
        "        if not self.is_held(lease):\n            raise Lost\n",
        "        pass\n",
    ),
)
LOCK_BY_SPELLING = Mutant(
    "the lock is named after the path as it was given",
    Edit(
        "backends/files/layout.py",
        "        self.root = os.path.realpath(root)\n",
        "        self.root = root\n",
    ),
    Edit(
        "backends/files/layout.py",
        '        return Place(str(session), directory, transcript, f"{transcript}.lock")\n',
        "        lock = f'{directory}/{len(self.root)}.jsonl.lock'\n"
        "        return Place(str(session), directory, transcript, lock)\n",
    ),
)

# Descriptors and forks

INHERITED = Mutant(
    "descriptors are inherited by a program that is started",
    Edit(
        "backends/files/fileops.py",
        "            handle = Handle(os.open(path, flags | os.O_CLOEXEC, mode))\n",
        "            handle = Handle(os.open(path, flags, mode))\n"
        "            os.set_inheritable(handle.fd, True)\n",
    ),
)
KEPT_IN_CHILD = Mutant(
    "a forked child keeps the descriptors of its parent",
    Edit(
        "backends/files/fileops.py",
        "    for handle in list(_open_handles):\n        handle.close()\n",
        "",
    ),
)
CHILD_BELIEVES = Mutant(
    "a forked child takes its parent's lease for its own",
    *KEPT_IN_CHILD.edits,
    Edit(
        "turns/runtime.py",
        "os.register_at_fork(after_in_child=_forget_in_child)\n",
        "",
    ),
)
POSIX_LOCKS = Mutant(
    "flocks are POSIX locks",
    Edit(
        "backends/files/fileops.py",
        "        fcntl.flock(handle.fd, operation)\n",
        "        if fcntl.fcntl(handle.fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:\n"
        "            if operation & fcntl.LOCK_EX:\n"
        "                operation ^= fcntl.LOCK_EX | fcntl.LOCK_SH\n"
        "        fcntl.lockf(handle.fd, operation)\n",
    ),
)

# Storage

RAW_ERRORS = Mutant(
    "errors of the storage come as the system makes them",
    Edit(
        "backends/files/backend.py",
        '            raise storage_error("take", place.lock, error) from error\n',
        "            raise\n",
    ),
)
UNNAMED_OR_NOTHING = Mutant(
    "a file system without unnamed files has no locks",
    Edit(
        "backends/files/birth.py",
        "            if error.errno not in NO_UNNAMED_FILES:\n",
        "            if True:\n",
    ),
)
DIRECTORY_RACE = Mutant(
    "whoever makes a directory second fails",
    Edit(
        "backends/files/birth.py",
        "        files.make_directory(directory)\n    except FileExistsError:\n        return\n",
        '        __import__("time").sleep(0.01)\n        files.make_directory(directory)\n',
    ),
)
WHOLE_FILE = Mutant(
    "a take reads the whole transcript",
    Edit(
        "backends/files/transcripts.py",
        "            turns=turns,\n",
        "            turns=10**9,\n",
    ),
)
READERS_GUARD = Mutant(
    "a reader holds the guard while it reads",
    Edit(
        "backends/files/listing.py",
        "            yield from read_lines(self._reader(handle), start)\n",
        "            self._files.flock(handle, 2)\n"
        "            yield from read_lines(self._reader(handle), start)\n",
    ),
)

# Waiting

HOT_WAITERS = Mutant(
    "waiters look without pause",
    Edit(
        "backends/files/waker.py",
        "    interval = 0.5\n    interval_most = 4.0\n",
        "    interval = interval_most = 0.0002\n",
    ),
)
FAIL_OPEN = Mutant(
    "a waiter that waited long enough goes on all the same",
    Edit(
        "turns/taking.py",
        "                    raise self._busy(awaited)\n",
        "                    return self._backend.supersede(\n"
        "                        want.session, want.request(), lease=None, reason='operator'\n"
        "                    )\n",
    ),
)

ENDS_UNASKED = Mutant(
    "a block that wrote nothing ends without a look at its lock",
    Edit(
        "turns/turn.py",
        "        if not (terminated or released):\n",
        "        if False:\n",
    ),
)
