"""The table of the failures that can happen to a database is whole, and the documentation's."""

from __future__ import annotations

from tests.docs.pages import ROOT
from tests.failures.declaring import modes
from tests.postgres.applying import NOTHING, OWN, SAME, UNTRIED, fates, mode_of, rows

PAGE = ROOT / "docs/design/postgres-failures.md"
TITLES = {identity: mode.title for identity, mode in modes().items()}
OWNERSHIP_TO_CALLS = {
    identity: title for identity, title in TITLES.items() if identity[0] in "ABCD"
}


def test_every_mode_of_the_families_has_a_fate_and_only_one() -> None:
    tried = {mode_of(name) for _, name in SAME} | OWN.keys()
    for some in (tried, NOTHING.keys()):
        assert not some & UNTRIED.keys()
    assert not tried & NOTHING.keys()
    assert all(fates(mode) for mode in OWNERSHIP_TO_CALLS)
    assert (OWN.keys() | NOTHING.keys() | UNTRIED.keys()) <= OWNERSHIP_TO_CALLS.keys()


def test_the_tests_that_are_named_are_there() -> None:
    of_files = [(f"failures/test_{module}.py", name) for module, name in SAME]
    of_databases = [test.split("::") for test in OWN.values()]
    for path, name in (*of_files, *of_databases):
        assert f"def {name}(" in (ROOT / "tests" / path).read_text()


def test_the_page_has_the_table() -> None:
    """What belongs there: ``print("\\n".join(rows(TITLES)))``."""
    assert "\n".join(rows(TITLES)) in PAGE.read_text()
