"""``make mutants``: plant every fault, one at a time, and see which test catches it.

For each fault the tests run that are to catch it, against a copy of the code that has the fault,
and the first one that fails is printed. With ``--all`` a fault that they let pass meets all that
``make test`` runs. First the same tests run without any fault, as nothing is shown by a test that
fails anyhow. Exits with 1 when a fault survives, and with 2 when a test fails without one.

With words only those faults, by part or name. A run over all writes ``docs/design/mutants.md``.

With ``--drawn N`` chance picks N small changes of the code instead, of the modules with one of the
words in their path, and whole folders of tests run: see ``drawing``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from .catalogue import Planted, chosen
from .drawing import DRAWN, drawn
from .mutant import Mutant, MutantError
from .page import PAGE, page
from .running import Outcome, run_tests

_NO_FAULT = Mutant("no fault")
# A test that hangs is ended by its own limit of 60 s.
_TIMEOUT = 300.0
_TIMEOUT_ALL = 3600.0


class Result(NamedTuple):
    """``test`` is the one that caught the fault; None when none did, and ``why`` says what else."""

    planted: Planted
    test: str | None
    seconds: float
    why: str = ""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.drawn:
        faults = drawn(options.drawn, options.seed, options.words)
    else:
        faults = chosen(options.words)
    if not faults:
        print(f"no fault has one of these in its name: {' '.join(options.words)}")
        return 2
    if not options.no_control and not passes(test for one in faults for test in one.tests):
        return 2
    results = run_all(faults, jobs=options.jobs, everything=options.all)
    survived = [one for one in results if one.test is None]
    print(f"{len(results)} faults: {len(results) - len(survived)} caught, {len(survived)} survived")
    if not (survived or options.words or options.drawn):
        rows = [(one.planted, one.test or "") for one in results]
        PAGE.write_text(page(rows), encoding="utf-8")
    return int(bool(survived))


def passes(tests: Iterable[str]) -> bool:
    """Whether these tests pass without any fault."""
    began = time.monotonic()
    try:
        outcomes = run_tests(_NO_FAULT, list(dict.fromkeys(tests)), timeout=_TIMEOUT_ALL)
    except MutantError as error:
        print(error)
        return False
    red = [one for one in outcomes if one.result in ("failed", "error")]
    for one in red:
        print(f"FAILS    without any fault: {one.test}: {one.kind}: {one.text[:300]}")
    if not red:
        print(
            f"passed   {time.monotonic() - began:5.1f} s  {len(outcomes)} tests without any fault"
        )
    return not red


def run_all(faults: Sequence[Planted], *, jobs: int, everything: bool) -> list[Result]:
    """Run the faults, so many at a time; prints each when it is done."""

    def one(planted: Planted) -> Result:
        is_drawn = planted.part == DRAWN
        result = plant(planted, planted.tests, timeout=_TIMEOUT_ALL if is_drawn else _TIMEOUT)
        if is_drawn and result.test is not None:
            result = _confirmed(result, result.test)
        if result.test is None and everything:
            result = plant(planted, ["tests"], timeout=_TIMEOUT_ALL)
            if result.test is not None and not passes([result.test]):
                result = result._replace(test=None, why=f"{result.test} fails anyhow")
        _print(result)
        return result

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one, faults))


def _confirmed(result: Result, test: str) -> Result:
    """Of many tests one may fail for another reason: it has to fail again."""
    if plant(result.planted, [test]).test is not None:
        return result
    return result._replace(test=None, why=f"{test} failed, and passed when it ran again")


def plant(planted: Planted, tests: Sequence[str], *, timeout: float = _TIMEOUT) -> Result:
    """Run tests against one fault, up to the first that fails."""
    began = time.monotonic()
    try:
        outcomes = run_tests(planted.mutant, tests, "-x", timeout=timeout)
    except (subprocess.TimeoutExpired, MutantError) as error:
        return Result(planted, None, time.monotonic() - began, str(error))
    spent = time.monotonic() - began
    caught = next((one for one in outcomes if one.result in ("failed", "error")), None)
    if caught is None:
        return Result(planted, None, spent, _nothing(outcomes))
    if caught.is_broken:
        return Result(planted, None, spent, f"no code any more: {caught.kind}: {caught.text}")
    return Result(planted, caught.test, spent)


def _nothing(outcomes: Sequence[Outcome]) -> str:
    passed = sum(one.result == "passed" for one in outcomes)
    return f"{passed} tests passed, {len(outcomes) - passed} were skipped"


def _print(result: Result) -> None:
    fault = f"{result.planted.part}.{result.planted.key}"
    if result.test is not None:
        text = f"caught   {result.seconds:5.1f} s  {fault}  by {result.test}"
    else:
        text = f"SURVIVED {result.seconds:5.1f} s  {fault}: {result.why[:500]}"
    print(text, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("words", nargs="*", help="parts, or pieces of the names of faults")
    jobs = os.cpu_count() or 2
    parser.add_argument("--jobs", type=int, default=jobs, help="so many at a time")
    parser.add_argument("--all", action="store_true", help="run all tests before one survives")
    parser.add_argument("--drawn", type=int, metavar="N", help="N faults that chance picks instead")
    parser.add_argument("--seed", type=int, default=0, help="of those that are drawn (default 0)")
    parser.add_argument("--no-control", action="store_true", help="no run without a fault first")
    return parser


if __name__ == "__main__":
    sys.exit(main())
