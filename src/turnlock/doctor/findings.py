"""What doctor can find: one table, and the report that is made of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from ..backends import LockRecord

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")


class Kind(NamedTuple):
    """``fixable``: whether ``--fix`` repairs it. ``kept``: a lock that lives, or may live: worth a
    warning, but neither stale nor broken."""

    severity: Severity
    meaning: str
    fixable: bool = False
    kept: bool = False


KINDS: dict[str, Kind] = {
    "check-crashed": Kind("error", "a check of doctor itself failed; the others still ran"),
    "directory-mode": Kind("warning", "every user may write a directory of sessions"),
    "directory-group": Kind("info", "a group may write a directory of sessions"),
    "directory-owner": Kind("warning", "a directory of sessions belongs to another user"),
    "directory-unreadable": Kind("error", "a directory of sessions cannot be listed"),
    "network-file-system": Kind("warning", "file locks serve one host, and others see these files"),
    "file-system": Kind("info", "FUSE and the like: file locks may not be those of this kernel"),
    "no-file-locks": Kind("error", "the file system has no file locks"),
    "stale-lock": Kind(
        "warning", "the holder is gone; the lock is removed, its markers written", fixable=True
    ),
    "over-limit": Kind("warning", "a live holder is past its hold limit", kept=True),
    "unknown-holder": Kind("warning", "nobody here can tell whether the holder lives", kept=True),
    "young-lock": Kind("info", "the lock cannot be read, but may be half written: it is too young"),
    "lock-object": Kind("error", "what lies at a lock path is no file, or cannot be read"),
    "foreign-holder": Kind("info", "another program holds the session, and cannot be fenced"),
    "transcript-object": Kind("error", "what lies at a transcript's path is not a regular file"),
    "transcript-unreadable": Kind("error", "a transcript cannot be read"),
    "transcript-empty": Kind("info", "a transcript has no bytes; the next turn begins it"),
    "header-missing": Kind("warning", "the first line of a transcript is no header"),
    "header-damaged": Kind("error", "the first line of a transcript is no JSON object"),
    "header-version": Kind("info", "a header is of another version than 3; entries are read"),
    "second-header": Kind("info", "a transcript has more headers than one; readers step over them"),
    "torn-tail": Kind(
        "warning", "a write at the end was cut short; its bytes are copied aside", fixable=True
    ),
    "damaged-lines": Kind(
        "warning", "lines that are no JSON objects; their bytes are copied aside", fixable=True
    ),
    "unfinished-turn": Kind(
        "warning",
        "turns have no terminal entry and nobody holds the session; error markers are written",
        fixable=True,
    ),
    "glued-lines": Kind("info", "entries share a line, as a newline is missing; each is read"),
    "forked": Kind(
        "info", "entries are on a branch that is not the active one: no model sees them"
    ),
    "missing-parents": Kind("info", "the parent of an entry is gone; the entry before stands in"),
    "duplicate-ids": Kind("info", "entries have the same id; the later one is the parent"),
    "open-calls": Kind(
        "info", "tool calls without result, or results without call; none is sent so"
    ),
    "epochs-decrease": Kind("info", "entries of turns are not in their order"),
    "torn-copy": Kind("info", "bytes that an earlier --fix copied aside"),
    "healed-original": Kind("info", "the original of a transcript that 'sessions heal' replaced"),
    "stray-file": Kind(
        "warning", "a temporary file whose maker is gone; it is removed", fixable=True
    ),
    "file-mode": Kind("info", "other users may read or write files of ours"),
    "no-sessions": Kind("info", "nothing of Turnlock's or OpenClaw's is here: another directory?"),
    "released-lock": Kind("info", "a lock of another program that 'release' moved aside"),
    "openclaw-database": Kind(
        "info", "OpenClaw's database, where its newer releases keep sessions: not looked into"
    ),
    "database-clock": Kind("warning", "this host's clock and the database's differ"),
    "database-indexes": Kind("error", "indexes of the database are missing or not valid"),
    "database-bloat": Kind("warning", "the database keeps many dead versions of its rows"),
    "database-old-transaction": Kind("warning", "a transaction is open for long in the database"),
    "database-not-durable": Kind("warning", "the database does not wait for its disk"),
    "database-torn": Kind("error", "the rows of a session do not make a transcript"),
    "gateway-running": Kind("info", "a gateway serves this directory"),
    "gateway-wedged": Kind(
        "error",
        "a gateway has the directory and does not answer: stopped, blocked, its port closed, or"
        " gone with its lock left to a child",
    ),
    "gateway-elsewhere": Kind(
        "warning", "a gateway in another pid namespace serves this directory", kept=True
    ),
    "gateway-second": Kind(
        "error", "a second gateway, which takes no lock on the directory, serves it as well"
    ),
    "gateway-gone": Kind(
        "info", "a gateway that is gone left its files; they are removed", fixable=True
    ),
    "gateway-file": Kind(
        "info", "a gateway's file cannot be read, and none runs; it is removed", fixable=True
    ),
    "unit-config": Kind(
        "info", "the configuration that the unit names cannot be read, so its drain limit neither"
    ),
    "unit-kill-mode": Kind(
        "warning", "at a stop the unit ends what turns have started, or tells nobody"
    ),
    "unit-stop-time": Kind("warning", "the unit kills the gateway before it has drained"),
    "unit-unreadable": Kind("error", "what `--unit` names is no unit of a service"),
}


class Finding(NamedTuple):
    """``hint`` names what to do about it, as a command where there is one."""

    check: str
    severity: Severity
    path: str | None
    message: str
    hint: str
    fixed: bool = False

    @property
    def is_trouble(self) -> bool:
        return self.severity != "info" and not self.fixed and not KINDS[self.check].kept


def finding(
    check: str, path: str | None, message: str, hint: str, *, fixed: bool = False
) -> Finding:
    """A finding of a kind that the table has, with the table's severity."""
    return Finding(check, KINDS[check].severity, path, message, hint, fixed)


class Report(NamedTuple):
    """What was found. ``findings`` are in the order of their severity."""

    root: str
    locks: tuple[LockRecord, ...]
    findings: tuple[Finding, ...]

    @property
    def stale(self) -> int:
        return sum(lock.stale for lock in self.locks)

    @property
    def removed(self) -> int:
        return sum(lock.removed for lock in self.locks)

    @property
    def is_sound(self) -> bool:
        """Nothing stale or broken is left."""
        return not any(found.is_trouble for found in self.findings)

    def as_json(self) -> dict[str, Any]:
        """The object of ``turnlock doctor --json``."""
        return {
            "locks": [lock_as_json(lock) for lock in self.locks],
            "findings": [found._asdict() for found in self.findings],
            "summary": {
                "locks": len(self.locks),
                "stale": self.stale,
                "removed": self.removed,
                "findings": len(self.findings),
            },
        }


def report(root: str, locks: Iterable[LockRecord], findings: Iterable[Finding]) -> Report:
    ordered = sorted(findings, key=lambda found: SEVERITIES.index(found.severity))
    return Report(root, tuple(locks), tuple(ordered))


def lock_as_json(lock: LockRecord) -> dict[str, Any]:
    return lock._asdict()
