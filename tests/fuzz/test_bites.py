"""Each target finds a fault that is planted, with what `make test` gives it.

Each runs pytest once more, against a copy of the package that has the fault: too long for every
``make test``. Run by ``make fuzz BITES=1``.
"""

from __future__ import annotations

import pytest

from tests.mutants import Mutant, run_tests

from .bites import BITES, tests_of
from .targets import TARGETS

pytestmark = [pytest.mark.bites, pytest.mark.timeout(300)]

# The fault itself is broken, and nothing was found.
_BROKEN = {"ImportError", "ModuleNotFoundError", "SyntaxError", "NameError", "MutantError"}
# These are the same code behind another library.
_AS_OPENAI = {"anthropic", "google", "mistral"}


@pytest.mark.parametrize(
    ("target", "mutant"), BITES, ids=[f"{target}: {mutant.name}" for target, mutant in BITES]
)
def test_it_bites(target: str, mutant: Mutant) -> None:
    outcomes = run_tests(mutant, tests_of(target), "-x", timeout=280.0)
    failed = [one for one in outcomes if one.result == "failed"]
    assert failed, outcomes
    assert failed[0].kind not in _BROKEN, outcomes


def test_every_target_has_a_fault_to_find() -> None:
    assert {target for target, _ in BITES} == set(TARGETS) - _AS_OPENAI
