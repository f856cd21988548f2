"""The catalogue is whole: each mode has one verdict, and the page says what the tests declare."""

from __future__ import annotations

import re
from collections import Counter

from tests.mutants.mutant import ROOT

from .declaring import NOT_APPLICABLE_MAX, declared, families, modes
from .page import NOT_RUN, SURVIVED, read_rows, rows_of

SIZES = {"A": 31, "B": 12, "C": 14, "D": 14, "E": 15, "F": 24, "G": 17}
CASES, EXCUSES = declared()


def test_the_catalogue_has_every_mode() -> None:
    wanted = [f"{letter}{n}" for letter, size in SIZES.items() for n in range(1, size + 1)]
    assert list(modes()) == wanted
    assert list(families()) == list(SIZES)


def test_every_mode_has_one_verdict() -> None:
    tested = {case.mode for case in CASES}
    excused = Counter(excuse.mode for excuse in EXCUSES)
    assert not tested & excused.keys(), "tested and excused"
    assert all(count == 1 for count in excused.values()), excused
    assert tested | excused.keys() == modes().keys()


def test_every_mode_that_is_tested_bites() -> None:
    biting = {case.mode for case in CASES if case.bites}
    assert {case.mode for case in CASES} == biting


def test_few_modes_do_not_apply_and_each_says_why() -> None:
    assert sum(not excuse.needs for excuse in EXCUSES) <= NOT_APPLICABLE_MAX
    assert all(excuse.why for excuse in EXCUSES)


def test_the_page_is_in_step() -> None:
    page = read_rows((ROOT / "docs/failures.md").read_text(encoding="utf-8"))
    rows = rows_of(CASES, EXCUSES, [])
    assert [(*row[:2], row.tests) for row in page] == [(*row[:2], row.tests) for row in rows], (
        "make failures"
    )
    for found, wanted in zip(page, rows, strict=True):
        if wanted.tests:
            assert found.verdict == SURVIVED or found.verdict.startswith(NOT_RUN), found
        else:
            assert found.verdict == wanted.verdict, "make failures"


def test_what_a_bite_shows_is_a_pattern() -> None:
    for case in CASES:
        for bite in case.bites:
            re.compile(bite.shows)
