"""Every test of a mode fails against its mutant, by seeing the effect.

Each runs pytest once more, in a process against a copy of the package: too long for every
``make test``. Run by ``make failures``, which CI does.
"""

from __future__ import annotations

import re

import pytest

from tests.mutants import Outcome, run_tests

from .declaring import Bite, Case, bite_id, declared

pytestmark = [pytest.mark.bites, pytest.mark.timeout(150)]

# What a test sees is an assertion that fails, or an error of ours that should not have come. Any
# other exception says that the mutant is broken, not that the test sees its fault.
_OURS = frozenset(
    {"SessionBusy", "LeaseRevoked", "LockPathError", "StoreError", "TranscriptError"}
    | {"AlreadyHeld", "GuardTimeout", "ModelError"}
)
_SEEN = _OURS | {"AssertionError", "Failed", "Refused"}


PAIRS = [(case, bite) for case in declared()[0] for bite in case.bites]


@pytest.mark.parametrize(
    ("case", "bite"), [pytest.param(*pair, id=bite_id(*pair)) for pair in PAIRS]
)
def test_it_bites(case: Case, bite: Bite) -> None:
    outcomes = run_tests(bite.mutant, [case.test], "-x")
    if all(one.result == "skipped" for one in outcomes):
        pytest.skip(outcomes[0].text)
    assert any(saw(one, bite) for one in outcomes), outcomes


def saw(outcome: Outcome, bite: Bite) -> bool:
    """Whether the test failed in its own body, and of what the mutant does."""
    return (
        outcome.result == "failed"
        and outcome.kind in _SEEN
        and not outcome.is_broken
        and re.search(bite.shows, f"{outcome.kind}: {outcome.text}") is not None
    )
