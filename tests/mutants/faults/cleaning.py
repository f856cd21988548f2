"""Faults of the clean-up of stale locks."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

SWEEP_STOPS = Mutant(
    "a stale lock that cannot be removed ends the sweep",
    Edit(
        "cleaning.py",
        '        logger.warning("stale lock left in place: path=%s: %s", record.path, error)\n'
        "        return Cleaned(record, why_of(error))\n",
        "        raise\n",
    ),
    Edit("cleaning.py", "        return Cleaned(record, repr(error))\n", "        raise\n"),
)
