"""Each target finds a fault that is planted, with what `make test` gives it.

Each runs pytest once more, against a copy of the package that has the fault: too long for every
``make test``. Run by ``make fuzz BITES=1``.
"""

from __future__ import annotations

import pytest

from tests.mutants import Mutant, faults, run_tests

from .targets import TARGETS

pytestmark = [pytest.mark.bites, pytest.mark.timeout(300)]

# The target that has to find it, and the fault.
BITES = (
    ("payload", faults.ONLY_JSON_ERRORS),
    ("claim", faults.PID_ALONE),
    ("scribe", faults.LONG_CLAIMS),
    ("lines", faults.LINES_OF_JSON_ALONE),
    ("lines", faults.LINES_BY_PIECES),
    ("entries", faults.LINES_BROKEN),
    ("transcript", faults.HEALED_OF_OURS_ALONE),
    ("config", faults.TOML_ALONE),
    ("name", faults.KEYS_WITH_SLASHES),
    ("state", faults.FLOCK_UNASKED),
    ("state", faults.KEPT_NOTHING),
    ("state", faults.BLOCKING_OPEN),
    ("presence", faults.URLS_AS_TOLD),
    ("http", faults.DEEP_BODIES),
    ("socket", faults.PORTS_AS_TOLD),
    ("openai", faults.CHUNKS_OF_JSON_ALONE),
    ("ollama", faults.OBJECTS_OF_JSON_ALONE),
    ("command", faults.DEEP_LINES),
)
# The fault itself is broken, and nothing was found.
_BROKEN = {"ImportError", "ModuleNotFoundError", "SyntaxError", "NameError", "MutantError"}
# These are the same code behind another library.
_AS_OPENAI = {"anthropic", "google", "mistral"}


@pytest.mark.parametrize(
    ("target", "mutant"), BITES, ids=[f"{target}: {mutant.name}" for target, mutant in BITES]
)
def test_it_bites(target: str, mutant: Mutant) -> None:
    tests = ("test_seeds_keep_the_promises", "test_no_input_breaks_a_promise")
    nodes = [f"tests/fuzz/test_fuzz.py::{test}[{target}]" for test in tests]
    outcomes = run_tests(mutant, nodes, "-x", timeout=280.0)
    failed = [one for one in outcomes if one.result == "failed"]
    assert failed, outcomes
    assert failed[0].kind not in _BROKEN, outcomes


def test_every_target_has_a_fault_to_find() -> None:
    assert {target for target, _ in BITES} == set(TARGETS) - _AS_OPENAI
