"""The page ``docs/failures.md``: verdicts from what the tests really did."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from tests.mutants import Outcome

from .declaring import Case, Excuse, Mode, bite_id, families, modes

SURVIVED = "survived"
NOT_RUN = "not run here"
BITES = "tests/failures/test_bites.py::test_it_bites"
_HEAD = """\
<!-- Written by the failure suite from its results: make failures -->
# Failures

Ways in which agent sessions were seen to fail in the field, and what becomes of each with
Turnlock. A mode is *survived* when a test makes its trigger really happen and shows that the effect
does not, and the same test, run against a fault that was put into Turnlock's own code, sees the
effect. Times are of one run of the test, in seconds, without that second run.

`make failures` runs all of it and writes this page. The tests are in `tests/failures`, a file a
family, and part of `make test`; the runs against the faults (`-m bites`) are not.
"""
_ROW = re.compile(r"^\| ([A-G]\d+) \| (.*?) \| (.*?) \| (.*?) \| (.*?) \|$", re.MULTILINE)


class Row(NamedTuple):
    id: str
    what: str
    verdict: str
    tests: str
    time: str


def page(cases: Sequence[Case], excuses: Sequence[Excuse], outcomes: Sequence[Outcome]) -> str:
    """The whole page."""
    rows = rows_of(cases, excuses, outcomes)
    return "\n".join([_HEAD, *_counts(rows), *_tables(rows)]) + "\n"


def read_rows(text: str) -> list[Row]:
    """The rows of a page that was written."""
    return [Row(*fields) for fields in _ROW.findall(text)]


def rows_of(
    cases: Sequence[Case], excuses: Sequence[Excuse], outcomes: Sequence[Outcome]
) -> list[Row]:
    found = by_test(outcomes)
    return [_row(mode, cases, excuses, found) for mode in modes().values()]


def by_test(outcomes: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    """What became of each test, over all its parameters; of each bite by its own name."""
    found: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        is_bite = outcome.test.startswith(BITES)
        test = outcome.test if is_bite else outcome.test.partition("[")[0]
        found.setdefault(test, []).append(outcome)
    return found


def verdict_of_excuse(excuse: Excuse) -> str:
    if excuse.needs:
        return f"waits for {excuse.needs}: {excuse.why}"
    return f"does not apply: {excuse.why}"


def _row(
    mode: Mode,
    cases: Sequence[Case],
    excuses: Sequence[Excuse],
    found: Mapping[str, list[Outcome]],
) -> Row:
    what = f"**{mode.title}.** {mode.what}"
    mine = [case for case in cases if case.mode == mode.id]
    if not mine:
        excuse = next(one for one in excuses if one.mode == mode.id)
        return Row(mode.id, what, verdict_of_excuse(excuse), "", "")
    return Row(mode.id, what, _verdict(mine, found), tests_of(mine), _time(mine, found))


def tests_of(cases: Sequence[Case]) -> str:
    return "<br>".join(f"`{case.test.rpartition('::')[2]}`" for case in cases)


def _verdict(cases: Sequence[Case], found: Mapping[str, list[Outcome]]) -> str:
    """Survived only if every test passed, and every bite did."""
    tests = [one for case in cases for one in found.get(case.test, [])]
    ran = all(found.get(case.test) for case in cases)
    bites = [
        found.get(f"{BITES}[{bite_id(case, bite)}]", []) for case in cases for bite in case.bites
    ]
    for one in tests:
        if one.result not in ("passed", "skipped"):
            return f"**failed**: {case_name(one.test)}"
        if one.result == "skipped":
            return one.text if one.text.startswith(NOT_RUN) else f"{NOT_RUN}: {one.text}"
    if not ran:
        return NOT_RUN
    if not all(bite and bite[0].result == "passed" for bite in bites):
        return "passed, but not shown to bite"
    return SURVIVED


def case_name(test: str) -> str:
    return test.rpartition("::")[2]


def _time(cases: Sequence[Case], found: Mapping[str, list[Outcome]]) -> str:
    spent = sum(one.seconds for case in cases for one in found.get(case.test, []))
    return f"{spent:.2f}"


def _counts(rows: Sequence[Row]) -> Iterator[str]:
    counted = Counter(re.split(r"[:*]", row.verdict.lstrip("*"))[0] for row in rows)
    total = ", ".join(f"{count} {verdict}" for verdict, count in counted.most_common())
    yield f"{len(rows)} modes: {total}.\n"


def _tables(rows: Sequence[Row]) -> Iterator[str]:
    for letter, title in families().items():
        yield f"## {letter}. {title}\n"
        yield "| id | what happens | verdict | test | time |"
        yield "| --- | --- | --- | --- | --- |"
        for row in rows:
            if row.id[0] == letter:
                yield f"| {row.id} | {row.what} | {row.verdict} | {row.tests} | {row.time} |"
        yield ""
