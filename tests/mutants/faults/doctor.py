"""Faults of doctor, and of what looks for a gateway."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

CRASH_STOPS_ALL = Mutant(
    "a check that crashes stops the others",
    Edit(
        "doctor/examine.py",
        "            found.append(_crashed(examination, name, error))\n",
        "            raise\n",
    ),
)
FIXES_UNASKED = Mutant(
    "doctor removes stale locks unasked",
    Edit(
        "doctor/checks/locks.py",
        "        if seen.stale and examination.fix:\n",
        "        if seen.stale:\n",
    ),
)
FIXES_NOTHING = Mutant(
    "doctor --fix removes no lock",
    Edit(
        "doctor/checks/locks.py",
        "        if seen.stale and examination.fix:\n",
        "        if False:\n",
    ),
)
STALE_IS_NO_TROUBLE = Mutant(
    "doctor calls a directory with a stale lock sound",
    Edit(
        "doctor/findings.py",
        '        return self.severity != "info" and not self.fixed and not KINDS[self.check].kept\n',
        '        return self.severity == "error" and not self.fixed\n',
    ),
)
FIXED_IS_TROUBLE = Mutant(
    "doctor calls a directory broken that it has just repaired",
    Edit(
        "doctor/findings.py",
        '        return self.severity != "info" and not self.fixed and not KINDS[self.check].kept\n',
        '        return self.severity != "info" and not KINDS[self.check].kept\n',
    ),
)
SECOND_LOOK_SPARED = Mutant(
    "doctor reports a lock as stale that somebody took meanwhile",
    Edit(
        "doctor/checks/locks.py",
        "    return examination.inspector.record(place, stale_after=limits.stale_after), []\n",
        "    return seen, []\n",
    ),
)
OVER_LIMIT_UNSAID = Mutant(
    "doctor does not say that a live holder is past its limit",
    Edit(
        "doctor/checks/locks.py",
        '    if "over-limit" in record.reasons:\n',
        "    if False:\n",
    ),
)
FOREIGN_UNSAID = Mutant(
    "doctor does not say that another program shares the directory",
    Edit(
        "doctor/checks/locks.py",
        "    elif file is not None:\n        yield _foreign(examination, record)\n",
        "",
    ),
)
UNREADABLE_HIDES_ALL = Mutant(
    "a directory that cannot be listed is not told of",
    Edit(
        "doctor/survey.py",
        "            unreadable.append((path, error.strerror or str(error)))\n",
        "            pass\n",
    ),
)
STRAYS_OF_THE_LIVING = Mutant(
    "doctor --fix removes the temporary file of a living maker",
    Edit(
        "doctor/checks/strays.py",
        "        files.flock(handle, (fcntl.LOCK_EX if examination.fix else fcntl.LOCK_SH)"
        " | fcntl.LOCK_NB)\n",
        "",
    ),
)
YOUNG_STRAYS = Mutant(
    "doctor --fix removes a temporary file that was just made",
    Edit(
        "doctor/checks/strays.py",
        "    if young or not stat.S_ISREG(status.st_mode):\n",
        "    if not stat.S_ISREG(status.st_mode):\n",
    ),
)
ANOTHER_STRAY = Mutant(
    "doctor --fix does not look whether the stray is still the one",
    Edit(
        "doctor/checks/strays.py",
        "        elif os.path.samestat(files.stat_path(path), files.stat_handle(handle)):\n",
        "        else:\n",
    ),
)
TORN_KEPT_TWICE = Mutant(
    "doctor keeps torn bytes again at every run",
    Edit(
        "doctor/fragments.py",
        'for one in dict.fromkeys(fragments) if b"\\n" + one + b"\\n" not in lines]\n',
        "for one in dict.fromkeys(fragments)]\n",
    ),
)
TORN_UNSYNCED = Mutant(
    "torn bytes are kept without fsync",
    Edit("doctor/fragments.py", "                self._files.fsync(handle)\n", ""),
)
TORN_OF_THE_HELD = Mutant(
    "doctor takes an append that is under way for a torn one",
    Edit(
        "doctor/checks/transcripts.py",
        "    if occupation is Occupation.HELD:\n        return None\n",
        "",
    ),
)
GROWN_SINCE = Mutant(
    "doctor does not look whether somebody wrote since it read",
    Edit(
        "doctor/checks/transcripts.py",
        "    return occupation if size == reading.size else None\n",
        "    return occupation\n",
    ),
)
UNFINISHED_UNSAID = Mutant(
    "doctor does not see a turn without terminal entry",
    Edit(
        "doctor/checks/transcripts.py",
        "    if unfinished and occupation is Occupation.FREE:\n",
        "    if False:\n",
    ),
)
SETTLES_WHAT_HAS_GROWN = Mutant(
    "doctor marks turns in a transcript that has grown since",
    Edit(
        "doctor/settling.py",
        "        moved = held.tail.size != size\n",
        "        moved = False\n",
    ),
)
SETTLING_KEEPS_HOLDER = Mutant(
    "doctor waits for whoever holds a session that it is to settle",
    Edit(
        "doctor/settling.py",
        "        if isinstance(held, Holder):\n            held.close()\n"
        '            return "somebody holds the session now"\n',
        "        if isinstance(held, Holder):\n            held.close()\n            return None\n",
    ),
)
LOOSE_MODES_UNSEEN = Mutant(
    "doctor does not see files that are open to others",
    Edit("doctor/checks/modes.py", "_OTHERS = 0o077\n", "_OTHERS = 0\n"),
)
NETWORK_UNSEEN = Mutant(
    "doctor does not say that a directory is on a network file system",
    Edit(
        "doctor/checks/file_system.py",
        '        return "network-file-system"\n',
        "        return None\n",
    ),
)
HELD_IS_FREE = Mutant(
    "a directory whose lock is held counts as nobody's",
    Edit(
        "doctor/presence.py",
        "    except BlockingIOError:\n        return True\n    except OSError:\n        return False\n"
        "    return False\n",
        "    except OSError:\n        return False\n    return False\n",
    ),
)
BELIEVES_THE_FILE = Mutant(
    "what a predecessor's file says is believed against the kernel",
    Edit(
        "doctor/presence.py",
        "    if kernel is not None and not _is_of(written.claim, kernel):\n",
        "    if False:\n",
    ),
)
REMOVES_WITHOUT_LOCK = Mutant(
    "doctor removes a gateway's files without the directory's lock",
    Edit(
        "doctor/presence.py",
        "        files.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)\n        for name",
        "        for name",
    ),
)
STOPPED_IS_ASKED = Mutant(
    "a stopped gateway is taken for a blocked one",
    Edit(
        "doctor/live.py",
        '    elif state is not None and state[:1] in "Tt":\n',
        "    elif False:\n",
    ),
)
TOKEN_TO_OTHERS = Mutant(
    "the token is sent to whatever host the file names",
    Edit(
        "doctor/live.py",
        "        if connection.sock.getsockname()[0] != connection.sock.getpeername()[0]:\n",
        "        if False:\n",
    ),
)
RELEASE_BLINDLY = Mutant(
    "a release names no turn",
    Edit(
        "doctor/live.py",
        '        body = {"turn_id": turn_id, "reason": "operator"}\n',
        '        body = {"turn_id": None, "reason": "operator"}\n',
    ),
)
HEALER_KEEPS_LOCK = Mutant(
    "a healer does not release",
    Edit(
        "doctor/healing.py",
        "        finally:\n            self._backend.release(held)\n",
        "        finally:\n            pass\n",
    ),
)
HEALS_ANY_VERSION = Mutant(
    "a transcript of another version is healed",
    Edit("doctor/healing.py", "        if scan.versions:\n", "        if False:\n"),
)
DAMAGE_NOT_KEPT = Mutant(
    "a healer drops the damaged bytes",
    Edit(
        "doctor/healing.py",
        "        copy.keep([to_keep(one.offset, one.raw) for one in scan.damaged])\n",
        "        pass\n",
    ),
)
STALE_IS_OK = Mutant(
    "a busy session has the exit code of any failure",
    Edit("cli/exits.py", "    (SessionBusy, ExitCode.BUSY),\n", ""),
)
REVOKED_IS_A_FAILURE = Mutant(
    "a revoked command has the exit code of any failure",
    Edit("cli/exits.py", "    (LeaseRevoked, ExitCode.REVOKED),\n", ""),
)
EXEC_GROUP_LIVES = Mutant(
    "the command of a revoked turn goes on",
    Edit(
        "cli/exec.py",
        "                if turn.revoked:\n",
        "                if False:\n",
    ),
)
EXEC_SIGNALS_LOST = Mutant(
    "a signal is not passed on to the command",
    Edit(
        "cli/exec.py",
        "                        group.signal(number)\n",
        "                        pass\n",
    ),
)
EXEC_ENDS_WELL = Mutant(
    "a command that fails is a turn that ended well",
    Edit("cli/exec.py", "    if code == 0:\n        return\n", "    return\n"),
)
