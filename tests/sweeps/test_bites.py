"""Every part finds a fault that it is there for."""

from __future__ import annotations

import pytest

from .bites import BITES, Bite, name, said

pytestmark = [pytest.mark.bites, pytest.mark.processes, pytest.mark.timeout(900)]


@pytest.mark.parametrize("bite", BITES, ids=name)
def test_it_bites(bite: Bite) -> None:
    output = said(bite)
    assert "FAILED" in output, output
    assert bite.shows in output, output
