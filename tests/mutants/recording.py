"""A plugin of pytest that writes what became of each test to ``$TURNLOCK_TEST_OUTCOMES``.

Where the tests run in several processes (pytest-xdist) each report carries its outcome to the one
that writes. A fault may end the process, or hang it until somebody else does: then the test that it
was at is the last one there, as failed. With ``$TURNLOCK_TEST_SOURCE`` it also makes sure that the
package under test is the one in there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from .running import Outcome

_TEXT_MAX = 4000
_PROPERTY = "turnlock outcome"
_outcomes: dict[str, Outcome] = {}
_is_worker = False


def pytest_configure(config: pytest.Config) -> None:
    global _is_worker
    _is_worker = hasattr(config, "workerinput")
    source = os.environ.get("TURNLOCK_TEST_SOURCE")
    if source is not None:
        import turnlock

        if not Path(turnlock.__file__).is_relative_to(source):
            raise pytest.UsageError(f"{turnlock.__file__} is not the package in {source}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    outcome = _outcome(item.nodeid, report, call.excinfo)
    report.user_properties.append((_PROPERTY, list(outcome)))
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    # Of a process that crashed there is a report without one.
    fields = dict(report.user_properties).get(_PROPERTY, (report.nodeid, "error", 0.0))
    outcome = Outcome(*fields)  # type: ignore[misc]
    known = _outcomes.get(outcome.test)
    is_new = known is None or known.result == "passed"
    if report.when == "call" or (report.outcome != "passed" and is_new):
        _outcomes[outcome.test] = outcome


def _outcome(
    test: str, report: pytest.TestReport, error: pytest.ExceptionInfo[BaseException] | None
) -> Outcome:
    result = "error" if report.failed and report.when != "call" else report.outcome
    if error is None:
        return Outcome(test, result, report.duration)
    text = str(error.value)[:_TEXT_MAX]
    return Outcome(test, result, report.duration, error.type.__name__, text)


def pytest_runtest_logstart(nodeid: str) -> None:
    _write([*_outcomes.values(), Outcome(nodeid, "failed", 0.0, "Died", "its process ended in it")])


def pytest_sessionfinish() -> None:
    _write(list(_outcomes.values()))


def _write(outcomes: Sequence[Outcome]) -> None:
    record = os.environ.get("TURNLOCK_TEST_OUTCOMES")
    if record is not None and not _is_worker:
        Path(record).write_text(json.dumps(outcomes), encoding="utf-8")
