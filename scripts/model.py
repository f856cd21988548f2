"""Check the model of the lock, model/lock.pml: every configuration exhausted, every mutant found.

Prints, of each configuration, its states, depth, memory and seconds and whether it was exhausted;
of each mutant, after how many states it was found, by what, and the shortest way to it in words.
Exits with 1 when a configuration has an error or was not exhausted, or a mutant was not found; with
2 when it could not look.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

MODEL = Path(__file__).parent.parent / "model"
TOOLS = {"spin": "spin", "cc": "gcc"}
MEMORY_MB = 5500
DEPTH = 2_000_000
MINUTES = 60


class ModelError(Exception):
    """The model does not compile, or what explores it was killed."""


class Size(NamedTuple):
    turns: int = 4
    processes: int = 3
    revokers: int = 1

    def __str__(self) -> str:
        more = "" if self.revokers == 1 else f", {self.revokers} revokers"
        return f"{self.turns} turns, {self.processes} processes{more}"


class Check(NamedTuple):
    """A configuration of the model that has to have no error, or a mutant that has to have one."""

    name: str
    what: str
    flags: str
    size: Size = Size()

    @property
    def is_of_liveness(self) -> bool:
        return "FAIR" in self.flags.split()


class Result(NamedTuple):
    check: Check
    errors: int
    exhausted: bool
    states: int
    depth: int
    megabytes: float
    seconds: float
    broken: str
    words: list[str]


SMALL = Size(3, 3)
SMALLEST = Size(2, 2)
TWO_REVOKERS = Size(3, 3, 2)

CONFIGURATIONS = [
    Check("removal", "a third party removes lock files, at any moment", "THIRD"),
    Check("fine", "every step that the code has", "FINE"),
    Check("death", "SIGKILL at every step", "CRASH"),
    Check("reuse", "inode numbers come back at once", "REUSE"),
    Check("removal and death", "a third party; SIGKILL at every step", "THIRD CRASH", SMALL),
    Check("removal, fine", "a third party; every step", "THIRD FINE", SMALL),
    Check("full disk", "writes that break off, fsyncs that fail; SIGKILL", "FULL CRASH", SMALL),
    Check("death, fine", "SIGKILL at every step that the code has", "CRASH FINE", SMALL),
    Check("reuse, fine", "inode numbers come back; SIGKILL; every step", "REUSE CRASH FINE", SMALL),
    Check("operator", "an operator or clean-up as well; SIGKILL", "OPERATES CRASH", SMALL),
    Check("two revokers", "a watchdog and an operator at once", "OPERATES", TWO_REVOKERS),
    Check(
        "liveness", "SIGSTOP for ever, at every step outside of the guard", "FAIR STOP FINE", SMALL
    ),
    Check("liveness after death", "SIGKILL; no limit passes", "FAIR CRASH NO_CLOCK", SMALL),
]

CLEAN_UP = "FINE CRASH OPERATES"

MUTANTS = [
    Check("MARKER_FIRST", "the error marker before the fence", "FINE CRASH", SMALLEST),
    Check("UNLINK_BY_PATH", "the judged lock is removed by its path", "FINE CRASH", SMALL),
    Check("NO_GUARD", "append checks and writes without the guard", "FINE", SMALLEST),
    Check("CHECK_BEFORE_GUARD", "append checks, then takes the guard", "FINE", SMALLEST),
    Check("FSYNC_INSIDE_GUARD", "the guard is dropped after fsync", "FAIR FINE STOP", SMALLEST),
    Check("CLOSED_ON_REVOKE", "a revoked lease closes its claim", "FINE REUSE", SMALL),
    Check("CLOSED_ON_RELEASE", "a released lease closes its claim", "FINE REUSE", SMALL),
    Check("JUDGED_CLOSED_EARLY", "the judged claim is closed at once", "FINE REUSE CRASH", SMALL),
    Check("NO_INODE_CHECK_BEFORE_RENAME", "supersede renames over what is there", "FINE", SMALL),
    Check("RELEASE_WITHOUT_INODE_CHECK", "release unlinks what is there", "FINE", SMALLEST),
    Check("OWED_MARKERS_DROPPED", "supersedes names only the judged turn", "FINE CRASH", SMALL),
    Check("RELEASED_OWING", "a claim that owes is released", "FINE CRASH", SMALLEST),
    Check("TAKES_AGAIN", "a take that lost its claim begins anew", "FINE", SMALLEST),
    Check("NO_GUARD_TO_SUPERSEDE", "check and rename without the guard", "FINE", SMALL),
    Check("NO_GUARD_TO_RELEASE", "check and unlink without the guard", "FINE", SMALLEST),
    Check("UNGUARDED_WITHOUT_TRANSCRIPT", "no guard where no transcript is", CLEAN_UP, SMALL),
    Check("VERDICT_BY_PID", "a live holder's pid is nobody's here", "FINE", SMALLEST),
    Check("LINKED_BEFORE_FLOCKED", "the claim gets its name, then its flock", "FINE", SMALLEST),
    Check("END_NOT_COMPARED", "the end is read once, and believed", "FINE THIRD", SMALLEST),
    Check("TERMINAL_AFTER_UNLINK", "release, then the terminal entry", "FINE", SMALLEST),
    Check("FSYNC_DROPPED", "append returns without fsync", "FINE", SMALLEST),
    Check("PROBE_KEEPS_FLOCK", "a waiter keeps its probe", "FAIR CRASH NO_CLOCK", SMALLEST),
]

QUICK_MUTANTS = ("NO_GUARD", "TAKES_AGAIN", "FSYNC_INSIDE_GUARD")
QUICK = [
    Check("quick", "SIGKILL and a third party at every step", "FINE CRASH THIRD", SMALLEST),
    Check("quick liveness", "SIGSTOP for ever outside of the guard", "FAIR STOP", SMALLEST),
]


# What an assertion that fails means, by a part of it as Spin writes it; the first that fits.
MEANINGS = [
    ("acceptance cycle", "somebody waits for ever"),
    ("invalid end state", "nobody can go on, and somebody waits"),
    ("lock==0", "another's lock is unlinked (I10)"),
    ("lives[lock]", "a lock is taken from a holder that lives, within its limit (I9)"),
    ("target[me]", "a successor is revoked in place of the turn (I9)"),
    ("lock==judged[me]", "another lock than the judged one is taken (I9)"),
    ("due&", "a claim is removed that alone says who is owed a marker (I6)"),
    ("fenced|over", "a marker is written before the fence (I6)"),
    ("fenced&", "a turn writes that has lost its session (I3)"),
    ("lock==claim[me]", "whoever writes does not have the lock (I3)"),
    ("unsynced", "an entry is acknowledged before it is durable (I4)"),
    ("epoch==", "an epoch is given twice (I2)"),
    ("open_turn==0", "a turn opens twice, or before the last one is ended (I1, I6)"),
    ("open_turn==", "a line of a turn that is not open, or has its terminal entry (I1, I6)"),
]


def missing_tools() -> list[str]:
    """What to install for this to work."""
    return [package for tool, package in TOOLS.items() if shutil.which(tool) is None]


def run(check: Check, *, is_mutant: bool) -> Result:
    """Compile and explore one check. Raises `ModelError`."""
    with tempfile.TemporaryDirectory(prefix="turnlock-model-") as directory:
        size = check.size
        flags = [*check.flags.split(), *([check.name] if is_mutant else [])]
        defines = [f"-D{flag}" for flag in flags]
        defines += [f"-DTURNS={size.turns}", f"-DPROCESSES={size.processes}"]
        defines += [f"-DREVOKERS={size.revokers}"]
        # Breadth first knows no hidden variables; then the scratch ones are part of the state.
        defines += ["-Dhidden="] if is_mutant and not check.is_of_liveness else []
        model = str(MODEL / "lock.pml")
        call(["spin", *defines, "-a", model], directory, check=True)
        # A small one takes longer to compile than to explore.
        effort = "-O1" if is_mutant or size == SMALLEST else "-O2"
        compiler = ["cc", effort, "-w", "-o", "pan", *_how(check, is_mutant), "pan.c"]
        call(compiler, directory, check=True)
        arguments = ["-a", "-f"] if check.is_of_liveness else []
        started = time.monotonic()
        report = call(["./pan", *arguments, f"-m{DEPTH}", "-n", f"-Q{MINUTES}"], directory)
        seconds = time.monotonic() - started
        words: list[str] = []
        if is_mutant and any(Path(directory).glob("*.trail")):
            trail = next(Path(directory).glob("*.trail"))
            shown = call(["spin", *defines, "-k", str(trail), "-t", "-T", model], directory)
            words = _words(shown, size.turns)
        return _result(check, report, seconds, words)


def call(command: Sequence[str], directory: str, *, check: bool = False) -> str:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    # What was killed by a signal, for want of memory most likely, did not explore all of it.
    if done.returncode < 0 or (check and done.returncode):
        raise ModelError(f"{' '.join(command)}: exit {done.returncode}\n{said}")
    return said


def _how(check: Check, is_mutant: bool) -> list[str]:
    if check.is_of_liveness:
        return ["-DNFAIR=3", "-DCOLLAPSE", "-DNOREDUCE", f"-DMEMLIM={MEMORY_MB}"]
    # Breadth first finds the shortest way. Nothing is reduced: the model has no local step.
    search = "-DBFS" if is_mutant else "-DCOLLAPSE"
    return ["-DSAFETY", search, "-DNOREDUCE", f"-DMEMLIM={MEMORY_MB}"]


def _result(check: Check, report: str, seconds: float, words: list[str]) -> Result:
    def number(pattern: str) -> float:
        found = re.search(pattern, report, re.MULTILINE)
        return float(found.group(1)) if found else 0.0

    broken = re.search(r"pan:\d+: (.*?) \(at depth", report)
    whole = "errors:" in report and not re.search(
        r"Search not completed|max search depth too small|out of memory|reached -DMEMLIM", report
    )
    return Result(
        check,
        int(number(r"errors: (\d+)")),
        whole,
        int(number(r"^\s*(\d+) states, stored")),
        int(number(r"depth reached (\d+)")),
        number(r"^\s*([\d.]+)\s+total actual memory usage"),
        seconds,
        _meaning(broken.group(1)) if broken else "",
        words,
    )


def _meaning(broken: str) -> str:
    return next((meaning for part, meaning in MEANINGS if part in broken), broken)


def _words(shown: str, turns: int) -> list[str]:
    """What the replay of a trail says: turns have the first numbers, revokers those after them."""
    said = re.findall(r"^\s*(?:(\d+) (?!processes)|a third party )(.*)", shown, re.MULTILINE)
    return [f"{_who(number, turns)} {what}" for number, what in said]


def _who(number: str, turns: int) -> str:
    if not number:
        return "a third party"
    return f"turn {number}" if int(number) <= turns else "the revoker"


def main() -> int:
    options = _options()
    missing = missing_tools()
    if missing:
        print(f"the model needs {' and '.join(missing)}: apt-get install {' '.join(missing)}")
        return 2
    wanted = QUICK if options.quick else CONFIGURATIONS
    mutants = [one for one in MUTANTS if not options.quick or one.name in QUICK_MUTANTS]
    if options.only:
        wanted = [check for check in wanted if check.name in options.only]
        mutants = [check for check in mutants if check.name in options.only]
    try:
        return _check(wanted, mutants, options.jobs)
    except ModelError as error:
        print(error, file=sys.stderr)
        return 2


def _check(wanted: Sequence[Check], mutants: Sequence[Check], jobs: int) -> int:
    started = time.monotonic()
    with ThreadPoolExecutor(jobs) as pool:
        good = [pool.submit(run, check, is_mutant=False) for check in wanted]
        bad = [pool.submit(run, check, is_mutant=True) for check in mutants]
        exhausted = [_show(future.result()) for future in good]
        found = [_show_mutant(future.result()) for future in bad]
        states = sum(future.result().states for future in good)
    print(
        f"\n{states:,} states in {len(exhausted)} configurations, {exhausted.count(True)} of them"
        f" exhausted without an error; {found.count(True)} of {len(found)} mutants found;"
        f" {time.monotonic() - started:.0f} s"
    )
    return 0 if all(exhausted) and all(found) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="the smallest configurations only")
    parser.add_argument("--jobs", type=int, default=2, help="checks at a time (default 2)")
    parser.add_argument("only", nargs="*", metavar="NAME", help="only these checks or mutants")
    return parser.parse_args()


def _show(result: Result) -> bool:
    check = result.check
    good = result.exhausted and result.errors == 0
    verdict = "exhausted, 0 errors" if good else f"NOT GOOD: {result.broken or 'not exhausted'}"
    print(f"{check.name}: {check.what} ({check.size})")
    print(
        f"    {result.states:,} states, depth {result.depth:,}, {result.megabytes:,.0f} MB,"
        f" {result.seconds:.0f} s: {verdict}",
        flush=True,
    )
    return good


def _show_mutant(result: Result) -> bool:
    check = result.check
    found = result.errors > 0
    print(f"mutant {check.name}: {check.what} ({check.size}; {check.flags})")
    how = f"found after {result.states:,} states: {result.broken}" if found else "NOT FOUND"
    print(f"    {how}", flush=True)
    for line in result.words:
        print(f"        {line}", flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main())
