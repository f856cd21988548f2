"""``turnlock doctor``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from ..backends.locations import open_postgres
from ..doctor.checks import CHECKS
from ..doctor.examination import Examination
from ..doctor.examine import examination_of, run_checks
from ..doctor.findings import SEVERITIES, Finding, Report
from ..doctor.live import gateway_of
from ..errors import seconds
from ..printable import printable
from ..store import Store
from .exits import ExitCode, WrongInput
from .jsonout import say_json
from .knowledge import knowledge_of, locks_as_json, notes
from .lock_table import lock_lines
from .looking import looking
from .options import common_options, json_option, named_store, state_directory, store_option
from .progress import progress
from .terminal import counted, paint, say, wrapped

# Of findings that are alike, so many paths are shown.
_PATHS_MAX = 5


@click.command()
@click.option(
    "--fix",
    is_flag=True,
    help="Remove stale locks and strays, write owed error markers, copy torn bytes aside.",
)
@click.option(
    "--deep",
    is_flag=True,
    help="Read every transcript whole, and not only its ends.",
)
@click.option(
    "--unit",
    metavar="FILE",
    help="Look at the systemd unit of the gateway as well: whether a stop lets turns end.",
)
@json_option
@store_option
@common_options
@click.pass_context
def command(ctx: click.Context, fix: bool, deep: bool, unit: str | None, as_json: bool) -> int:
    """Look for locks that are stale and files that are broken; repair them with --fix.

    Without --fix nothing is changed, not even an access time. With it a live lock is never
    touched, and a transcript only gets what it is owed: the error markers of turns that ended
    without one, and a result for each tool call that they left open.

    With --deep damaged lines, unfinished turns, forks and the like are found wherever they are in
    a transcript. How far it is shows on stderr, but not with --json.

    With --store it looks at a database: leases that ran out, turns that are over their limits, the
    server's clock, indexes, dead rows and old transactions; with --deep also at the end of every
    transcript. It tells the version of the tables, and of each lock the epoch, its holder's host,
    and for how long its lease lasts.

    Exit code 0: nothing stale or broken is left; 1: something is; 2: it could not look.
    """
    url = named_store(ctx)
    if url is not None:
        if unit is not None:
            raise WrongInput("--unit is of a gateway on a state directory: give it without --store")
        with looking(ctx):
            return _database(url, fix=fix, deep=deep, as_json=as_json)
    root = state_directory(ctx)
    examination = examination_of(root, fix=fix, deep=deep, unit=unit)
    report = _examined(examination, shown=not as_json)
    # One that does not answer was asked already, and waited for.
    answers = any(found.check == "gateway-running" for found in report.findings)
    known = knowledge_of(root, report.locks, gateway_of(root) if answers else None)
    if as_json:
        say_json(report.as_json() | {"locks": locks_as_json(report.locks, known)}, indent=2)
    else:
        for line in report_lines(report, notes(known)):
            say(line)
    return ExitCode.OK if report.is_sound else ExitCode.FAILED


def _database(url: str, *, fix: bool, deep: bool, as_json: bool) -> int:
    backend = open_postgres(url)
    from ..doctor.database import examine_database, facts_of

    with Store(backend, location=backend.location) as store:
        report = examine_database(backend, store, fix=fix, deep=deep)
        known, facts = backend.claims(), facts_of(backend)
    if as_json:
        more = {"locks": locks_as_json(report.locks, known), "database": facts}
        say_json(report.as_json() | more, indent=2)
        return ExitCode.OK if report.is_sound else ExitCode.FAILED
    place, *lines = report_lines(report, notes(known), place="database")
    for line in (place, _about_database(facts), *lines):
        say(line)
    return ExitCode.OK if report.is_sound else ExitCode.FAILED


def _about_database(facts: Mapping[str, Any]) -> str:
    ahead = facts["clock_seconds_ahead"]
    which = "ahead of" if ahead >= 0 else "behind"
    return (
        f"tables    version {facts['schema_version']} (this program: {facts['program_version']});"
        f" this host's clock is {seconds(abs(ahead))} {which} the server's"
    )


def _examined(examination: Examination, *, shown: bool) -> Report:
    if not examination.deep:
        return run_checks(examination, CHECKS)
    with progress("reading transcripts", examination.transcript_bytes(), shown=shown) as on_read:
        examination.on_read = on_read
        return run_checks(examination, CHECKS)


def report_lines(
    report: Report,
    known: Mapping[str, Sequence[str]] | None = None,
    *,
    place: str = "state directory",
) -> list[str]:
    """The report for people: locks, findings, and last what it comes to.

    ``known``: what else is known of a lock, by its path.
    """
    lines = [f"{place}  {printable(report.root)}", ""]
    lines.append(paint(f"Locks ({len(report.locks)})", "strong"))
    lines += lock_lines(report.locks, known) or ["  none"]
    lines += ["", paint(f"Findings ({len(report.findings)})", "strong")]
    width = max((len(found.check) for found in report.findings), default=0)
    for alike in _alike(report.findings):
        lines += _finding_lines(alike, report.root, width)
    if not report.findings:
        lines.append("  none")
    return [*lines, "", *_summary(report)]


def _alike(findings: Iterable[Finding]) -> Iterable[list[Finding]]:
    """Findings that differ in nothing but their path, together: a person reads them once."""
    groups: dict[Finding, list[Finding]] = {}
    for found in findings:
        groups.setdefault(found._replace(path=None), []).append(found)
    return groups.values()


def _finding_lines(alike: list[Finding], root: str, width: int) -> list[str]:
    found = alike[0]
    label = "fixed" if found.fixed else found.severity
    color = "good" if found.fixed else found.severity
    check = found.check.ljust(width)
    gap = " " * (13 + width)
    message, *more = wrapped(printable(found.message), indent=len(gap))
    lines = [f"  {paint(label.ljust(7), color)}  {check}  {message}"]
    lines += [gap + line for line in more]
    paths = [one.path for one in alike if one.path is not None and one.path != root]
    lines += [gap + paint(printable(path), "faint") for path in paths[:_PATHS_MAX]]
    if len(paths) > _PATHS_MAX:
        lines.append(gap + paint(f"and {len(paths) - _PATHS_MAX} more (--json)", "faint"))
    if not found.fixed:
        lines.append(f"{gap}→ {printable(found.hint)}")
    return lines


def _summary(report: Report) -> list[str]:
    left = report.stale - report.removed
    stale = f", {left} stale" if left else ""
    removed = f", {report.removed} removed" if report.removed else ""
    fixed = sum(found.fixed for found in report.findings)
    by_severity = [
        counted(number, severity) if severity != "info" else f"{number} info"
        for severity in SEVERITIES
        if (number := _number_left(report, severity))
    ]
    found = ", ".join(by_severity + ([f"{fixed} fixed"] if fixed else [])) or "none"
    lines = [f"{counted(len(report.locks), 'lock')}{stale}{removed}; findings: {found}"]
    warnings = _number_left(report, "warning")
    if report.is_sound and warnings:
        # Locks that live, or may: doctor leaves them, and a person may have to decide.
        text = (
            f"Nothing stale or broken is left; {counted(warnings, 'warning')} to judge, see above."
        )
        return [*lines, paint(text, "warning")]
    if report.is_sound:
        return [*lines, paint("Nothing stale or broken is left.", "good")]
    return [*lines, paint("Something is stale or broken: see the findings above.", "warning")]


def _number_left(report: Report, severity: str) -> int:
    return sum(found.severity == severity and not found.fixed for found in report.findings)
