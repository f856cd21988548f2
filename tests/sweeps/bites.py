"""Faults of our own code, and the part of the sweeps that finds each."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import NamedTuple

from tests.mutants import Mutant, faults, mutated
from tests.mutants.mutant import ROOT


class Bite(NamedTuple):
    """``arguments`` of the command, and what it then says."""

    mutant: Mutant
    arguments: tuple[str, ...]
    shows: str


BITES = (
    Bite(faults.MARKER_FIRST, ("--part", "kill", "--only", "revoke"), "I6"),
    Bite(faults.OWED_DROPPED, ("--part", "kill", "--only", "over one that", "--stride", "5"), "I6"),
    Bite(
        faults.UNLINK_BY_PATH,
        ("--part", "stop", "--only", "release without", "--stride", "3"),
        "I8",
    ),
    Bite(faults.NO_FENCE, ("--part", "stop", "--only", "take what", "--stride", "5"), "I3"),
    Bite(faults.RENAME_UNSEEN, ("--part", "stop", "--only", "revoke"), "I8"),
    Bite(faults.FSYNC_DROPPED, ("--part", "power", "--quick"), "I4"),
    Bite(
        faults.DIRECTORY_NOT_SYNCED,
        ("--part", "power", "--only", "take, append", "--stride", "5"),
        "I4",
    ),
    Bite(faults.RAW_ERRORS, ("--part", "errno", "--only", "take what", "--stride", "9"), "I11"),
    Bite(faults.SHORT_WRITES, ("--part", "errno", "--only", "take what", "--stride", "3"), "I4"),
    Bite(faults.NO_FENCE, ("--part", "chaos", "--seconds", "20"), "linearizability"),
)


def name(bite: Bite) -> str:
    return f"{bite.arguments[1]}: {bite.mutant.name}"


def said(bite: Bite) -> str:
    """What the command says of code that has the fault."""
    with mutated(bite.mutant) as source:
        done = subprocess.run(
            [sys.executable, "-m", "tests.sweeps", *bite.arguments],
            cwd=ROOT,
            # What chaos keeps of its failures goes with the copy.
            env=os.environ | {"PYTHONPATH": str(source), "TMPDIR": str(source)},
            capture_output=True,
            text=True,
            check=False,
        )
    return done.stdout + done.stderr
