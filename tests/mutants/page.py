"""The page ``docs/design/mutants.md``: which test caught which fault."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .catalogue import Planted
from .mutant import ROOT

PAGE = ROOT / "docs" / "design" / "mutants.md"
_HEAD = """\
<!-- Written from the results: make mutants -->
# Mutants

Faults that were put into Turnlock's own code, mostly of one line each, and the test that caught
each: the first that failed, out of those that are to catch it. All of these tests are part of
`make test`.

`make mutants` runs all of it and writes this page; `ARGS=lock` only the faults of a part,
`ARGS=fsync` those with that in their name, `ARGS=--all` every test before a fault counts as one
that survives. The faults are in `tests/mutants/faults`, a module a part. The protocol has mutants
of its own in `model`, and the schedules in `tests/simulation`.
"""
_ROW = re.compile(r"^\| `(\w+)` \| (.*?) \| `(.*?)` \|$", re.MULTILINE)


def page(rows: Sequence[tuple[Planted, str]]) -> str:
    """The page for these faults, each with the test that caught it."""
    lines = [_HEAD, f"{len(rows)} faults, each caught.\n"]
    for part in dict.fromkeys(planted.part for planted, _ in rows):
        lines += [f"## {part}\n", "| fault | what is wrong | caught by |", "| --- | --- | --- |"]
        lines += [
            f"| `{planted.key}` | {planted.mutant.name} | `{_named(test)}` |"
            for planted, test in rows
            if planted.part == part
        ]
        lines.append("")
    return "\n".join(lines)


def _named(test: str) -> str:
    return test.removeprefix("tests/").partition("[")[0]


def read_rows(text: str) -> list[tuple[str, str, str]]:
    """(fault, what is wrong, test) of every row of a page."""
    return [(key, name, f"tests/{test}") for key, name, test in _ROW.findall(text)]
