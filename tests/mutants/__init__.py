"""One-line faults of our own code, and tests run against a copy that has one.

A `Mutant` is a text edit of ``src/turnlock``. `mutated` makes a copy of the package with it, and
`run_tests` runs tests in a process whose ``PYTHONPATH`` begins with that copy. So do the processes
that those tests start: the fault is in all of them, and no test knows that it is there.
"""

from .mutant import Edit, Mutant, MutantError, appended, mutated
from .running import Outcome, run_tests

__all__ = ["Edit", "Mutant", "MutantError", "Outcome", "appended", "mutated", "run_tests"]
