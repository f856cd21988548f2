"""``make failures``: run the suite with its bites, and write ``docs/failures.md`` from the results.

Exits with 1 when a mode that has a test did not come out as survived, but for those that cannot
be run here. With ``--check`` the page is not written.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.mutants.mutant import ROOT
from tests.mutants.running import Outcome, read_outcomes

from .declaring import HERE, declared, family_files
from .page import NOT_RUN, SURVIVED, page, rows_of

PAGE = ROOT / "docs" / "failures.md"


def main() -> int:
    cases, excuses = declared()
    outcomes = run()
    rows = rows_of(cases, excuses, outcomes)
    tested = {case.mode for case in cases}
    bad = [row for row in rows if row.id in tested and row.verdict != SURVIVED]
    for row in bad:
        print(f"{row.id}: {row.verdict}")
    if "--check" not in sys.argv:
        PAGE.write_text(page(cases, excuses, outcomes), encoding="utf-8")
    return int(not all(row.verdict.startswith(NOT_RUN) for row in bad))


def run() -> list[Outcome]:
    """Every test of the suite, and every bite."""
    with TemporaryDirectory() as directory:
        record = Path(directory) / "outcomes.json"
        plugin = {
            "PYTEST_PLUGINS": "tests.mutants.recording",
            "TURNLOCK_TEST_OUTCOMES": str(record),
        }
        files = [*map(str, family_files()), str(HERE / "test_bites.py")]
        command = [sys.executable, "-m", "pytest", "-q", "-m", "bites or not bites", *files]
        subprocess.run(command, cwd=ROOT, env=os.environ | plugin, check=False)
        return read_outcomes(record)


if __name__ == "__main__":
    sys.exit(main())
