"""``make failures``: run the suite with its bites, and write ``docs/failures.md`` from the results.

Exits with 1 when a mode that has a test did not come out as survived, but for those that cannot
be run here; or when one of the tests that run on a database as well failed there. The bites run
``--jobs`` at a time. With ``--check`` the page is not written, and the tests run beside them; else,
as the page has their times, one at a time before that.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.mutants.mutant import ROOT
from tests.mutants.running import Outcome, read_outcomes

from .declaring import HERE, declared, family_files
from .page import NOT_RUN, SURVIVED, page, rows_of

PAGE = ROOT / "docs" / "failures.md"
BITES = HERE / "test_bites.py"
ON_A_DATABASE = ROOT / "tests" / "postgres" / "test_failures.py"


def main() -> int:
    parser = argparse.ArgumentParser(prog="make failures", description=__doc__)
    parser.add_argument("--check", action="store_true", help="do not write the page")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time (2)")
    options = parser.parse_args()
    cases, excuses = declared()
    if options.check:
        outcomes = run([*family_files(), BITES, ON_A_DATABASE], options.jobs)
    else:
        outcomes = run(family_files(), 0) + run([BITES, ON_A_DATABASE], options.jobs)
    rows = rows_of(cases, excuses, outcomes)
    tested = {case.mode for case in cases}
    bad = [row for row in rows if row.id in tested and row.verdict != SURVIVED]
    for row in bad:
        print(f"{row.id}: {row.verdict}")
    there = [one for one in outcomes if _is_in(ON_A_DATABASE, one) and one.result == "failed"]
    for one in there:
        print(f"on a database: {one.test}: failed")
    if not options.check:
        PAGE.write_text(page(cases, excuses, outcomes), encoding="utf-8")
    is_survived = all(row.verdict.startswith(f"{NOT_RUN}: ") for row in bad)
    return int(bool(there) or not is_survived)


def _is_in(file: Path, outcome: Outcome) -> bool:
    return outcome.test.startswith(f"{file.relative_to(ROOT)}::")


def run(files: Sequence[Path], jobs: int) -> list[Outcome]:
    """Every test and every bite in these files, each named with its result as it ends."""
    with TemporaryDirectory() as directory:
        record = Path(directory) / "outcomes.json"
        plugin = {
            "PYTEST_PLUGINS": "tests.mutants.recording",
            "TURNLOCK_TEST_OUTCOMES": str(record),
        }
        options = ["-v", "-m", "failures or not failures", "-n", str(jobs), "--dist", "worksteal"]
        command = [sys.executable, "-m", "pytest", *options, *map(str, files)]
        subprocess.run(command, cwd=ROOT, env=os.environ | plugin, check=False)
        return read_outcomes(record)


if __name__ == "__main__":
    sys.exit(main())
