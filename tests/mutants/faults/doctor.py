"""Faults of doctor and of the clean-up."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

UNMARKED = Mutant(
    "the clean-up frees a session and marks no turn",
    Edit(
        "cleaning.py",
        "    settle_and_release(runtime, backend, held, record.session or record.path)\n",
        "    backend.release(held)\n",
    ),
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
