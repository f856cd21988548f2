"""One run of doctor: every check, each kept from stopping the others."""

from __future__ import annotations

from collections.abc import Iterable

from .checks import CHECKS, Check
from .examination import Examination
from .findings import Finding, Report, finding, report
from .looking import require_directory


def examine(root: str, *, fix: bool = False, deep: bool = False) -> Report:
    """Look at a state directory, and with ``fix`` repair what can be.

    Of a transcript its ends are read, with ``deep`` all of it.
    Raises `CannotLook` when there is no directory to look at, or it cannot be read.
    """
    return run_checks(examination_of(root, fix=fix, deep=deep), CHECKS)


def examination_of(root: str, *, fix: bool, deep: bool, unit: str | None = None) -> Examination:
    """What the checks take. Raises as `examine` does."""
    require_directory(root)
    return Examination(root, fix=fix, deep=deep, unit=unit)


def run_checks(examination: Examination, checks: Iterable[tuple[str, Check]]) -> Report:
    """What the checks find. One that raises is a finding, and what it found before counts."""
    found: list[Finding] = []
    for name, check in checks:
        try:
            for one in check(examination):
                found.append(one)  # noqa: PERF402 - what came before a crash must not be lost
        except Exception as error:  # noqa: BLE001 - the frame that isolates checks
            found.append(_crashed(examination, name, error))
    return report(examination.root, examination.locks.values(), found)


def _crashed(examination: Examination, name: str, error: Exception) -> Finding:
    return finding(
        "check-crashed",
        examination.root,
        f"check crashed: {name}: {type(error).__name__}: {error}",
        f"look again: {examination.command('doctor')}; if it stays, it is a bug of doctor",
    )
