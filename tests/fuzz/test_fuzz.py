"""Bytes that nobody wrote, for whatever reads: no bug, no hang, no live lock freed, no byte lost.

The same inputs every time. More of them: ``TURNLOCK_FUZZ_EXAMPLES=20`` makes twenty times as many,
other ones in every run. `make fuzz` looks further, by what the code does with each.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .harness import Target, check
from .inputs import inputs_of
from .targets import TARGETS

_TIMES = int(os.environ.get("TURNLOCK_FUZZ_EXAMPLES", "0"))


pytestmark = pytest.mark.timeout(0 if _TIMES else 300)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_seeds_keep_the_promises(target: Target) -> None:
    for seed in target.seeds():
        check(target, seed)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_no_input_breaks_a_promise(target: Target) -> None:
    @settings(
        max_examples=target.examples * max(1, _TIMES),
        derandomize=not _TIMES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.deferred(lambda: inputs_of(target)))
    def run(data: bytes) -> None:
        check(target, data)

    run()
