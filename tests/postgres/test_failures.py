"""The failure suite, as far as it applies, with a database in place of the state directory."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from tests.docs.pages import ROOT
from tests.failures.declaring import modes
from tests.postgres.applying import NOTHING, OWN, SAME, UNTRIED, fates, mode_of, rows
from tests.postgres.fixtures import TestDatabase

PAGE = ROOT / "docs/design/postgres-failures.md"
TITLES = {identity: mode.title for identity, mode in modes().items() if identity[0] in "ABCD"}


def found(module: str, name: str) -> Callable[..., None]:
    test = getattr(importlib.import_module(f"tests.failures.test_{module}"), name)
    assert callable(test)
    return cast("Callable[..., None]", test)


@pytest.mark.postgres
@pytest.mark.processes
@pytest.mark.timeout(120)
@pytest.mark.parametrize(("module", "name"), SAME, ids=[name for _, name in SAME])
def test_the_same_failure_is_survived_on_a_database(
    postgres: TestDatabase, module: str, name: str
) -> None:
    test = found(module, name)
    for mark in getattr(test, "pytestmark", []):
        if mark.name == "skipif" and mark.args[0]:
            pytest.skip(str(mark.kwargs["reason"]))
    # A store is opened by its name, and the tests do nothing else with it.
    test(state=cast("Path", postgres.url))


def test_every_mode_of_the_families_has_a_fate_and_only_one() -> None:
    tried = {mode_of(name) for _, name in SAME} | OWN.keys()
    for some in (tried, NOTHING.keys()):
        assert not some & UNTRIED.keys()
    assert not tried & NOTHING.keys()
    assert all(fates(mode) for mode in TITLES)
    assert (OWN.keys() | NOTHING.keys() | UNTRIED.keys()) <= TITLES.keys()


def test_the_tests_that_are_named_are_there() -> None:
    for module, name in SAME:
        found(module, name)
    for test in OWN.values():
        path, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / "tests" / path).read_text()


def test_the_page_has_the_table() -> None:
    """What belongs there: ``print("\\n".join(rows(TITLES)))``."""
    assert "\n".join(rows(TITLES)) in PAGE.read_text()
