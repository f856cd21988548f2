"""The faults fit the code, and the tests that are to catch them are there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.failures.declaring import declared
from tests.helpers import child
from tests.mutants import Edit, Mutant, MutantError, mutated, run_tests

from .catalogue import chosen, is_a_test, planted
from .drawing import drawn
from .mutant import PACKAGE
from .page import PAGE, read_rows

FAULTS = planted()


def test_every_fault_fits_the_code() -> None:
    """An edit that no longer fits would only be seen where the faults are run."""
    bitten = [bite.mutant for case in declared()[0] for bite in case.bites]
    for mutant in {id(one): one for one in [*bitten, *(one.mutant for one in FAULTS)]}.values():
        for edit in mutant.edits:
            text = edit.apply((PACKAGE / edit.path).read_text(encoding="utf-8"))
            compile(text, edit.path, "exec")


def test_every_fault_has_tests_that_exist() -> None:
    for fault in FAULTS:
        assert fault.tests, fault.key
        missing = [test for test in fault.tests if not is_a_test(test)]
        assert not missing, (fault.key, missing)


def test_every_fault_has_a_name_of_its_own() -> None:
    assert len({fault.key for fault in FAULTS}) == len(FAULTS)
    assert len({fault.mutant.name for fault in FAULTS}) == len(FAULTS)


def test_the_page_is_in_step() -> None:
    """Faults of the failure suite alone may come later: its own page shows that they are seen."""
    known = {fault.key: fault for fault in FAULTS}
    rows = read_rows(PAGE.read_text(encoding="utf-8"))
    for key, name, test in rows:
        assert known[key].mutant.name == name, "make mutants"
        assert is_a_test(test), "make mutants"
    own = {fault.key for fault in FAULTS if fault.mutant.caught_by}
    assert own <= {key for key, _, _ in rows}, "make mutants"


def test_faults_are_chosen_by_part_and_by_name() -> None:
    assert {fault.part for fault in chosen(["lock"])} >= {"lock"}
    assert [fault.key for fault in chosen(["No_Fence"])] == ["NO_FENCE"]
    assert chosen([]) == FAULTS


def test_what_is_drawn_is_one_change_of_the_code_each() -> None:
    faults, again, others = (drawn(30, seed, ["transcript/"]) for seed in (5, 5, 6))
    names, once_more, different = ([one.key for one in each] for each in (faults, again, others))
    assert names == once_more != different
    for fault in faults:
        (change,) = fault.mutant.edits
        text = (PACKAGE / change.path).read_text(encoding="utf-8")
        was, is_now = ast.parse(text), ast.parse(change.apply(text))
        assert ast.dump(was) != ast.dump(is_now), fault.key


def test_words_say_from_where_is_drawn() -> None:
    assert {fault.mutant.edits[0].path for fault in drawn(9, 0, ["turns/queue"])} == {
        "turns/queue.py"
    }


def test_an_edit_that_does_not_fit_is_an_error() -> None:
    with (
        pytest.raises(MutantError, match="0 times"),
        mutated(Mutant("x", Edit("lock.py", "%", ""))),
    ):
        pass
    with pytest.raises(MutantError, match="times, and not once"):
        Edit("lock.py", "a", "").apply("a a")


def test_a_mutant_is_in_the_processes_of_a_test(monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = Mutant("it says so", Edit("__init__.py", '__version__ = "', '__version__ = "mutant-'))
    with mutated(mutant) as source:
        monkeypatch.setenv("PYTHONPATH", str(source))
        with child("import turnlock; print(turnlock.__version__)") as process:
            assert process.line().startswith("mutant-")


def test_a_process_that_ends_in_a_test_fails_it(tmp_path: Path) -> None:
    path = tmp_path / "test_ends.py"
    path.write_text(
        "import os\ndef test_before(): pass\ndef test_ends(): os._exit(1)\ndef test_after(): pass\n"
    )
    outcomes = run_tests(Mutant("no fault"), [str(path)])
    assert [(one.test.rpartition("::")[2], one.result) for one in outcomes] == [
        ("test_before", "passed"),
        ("test_ends", "failed"),
    ]
