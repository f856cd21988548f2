"""``python -m tests.simulation``: run schedules, replay one, show that planted races are found."""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

from .mutants import MUTANTS, find
from .runs import digests, replay, run_all

_CHUNK = 250
_FAILURES_SHOWN = 10


def main() -> int:
    arguments = _parser().parse_args()
    if arguments.seed is not None:
        return _show(arguments.seed)
    if arguments.digests:
        return _print_digests(range(arguments.start, arguments.start + arguments.seeds))
    if arguments.mutants:
        return _hunt(arguments.seeds, arguments.jobs)
    return _simulate(arguments.start, arguments.seeds, arguments.jobs)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20_000, help="how many (default 20000)")
    parser.add_argument("--start", type=int, default=0, help="the first (default 0)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--seed", type=int, help="replay this one and tell what happened")
    parser.add_argument("--digests", action="store_true", help="print a digest of each history")
    parser.add_argument("--mutants", action="store_true", help="plant races and find each")
    return parser


def _simulate(start: int, seeds: int, jobs: int) -> int:
    began = time.monotonic()
    chunks = [
        range(first, min(first + _CHUNK, start + seeds))
        for first in range(start, start + seeds, _CHUNK)
    ]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        sums = list(pool.map(run_all, chunks))
    schedules = sum(one.schedules for one in sums)
    lasted = time.monotonic() - began
    failures = [failure for one in sums for failure in one.failures]
    print(
        f"{schedules} schedules, seeds {start} to {start + seeds - 1}:"
        f" {sum(one.turns for one in sums)} turns, {sum(one.acked for one in sums)} acknowledged"
        f" appends, {sum(one.steps for one in sums)} hand-overs"
        f" in {lasted:.0f} s ({schedules / lasted:.0f} a second); {len(failures)} failed"
    )
    for seed, violations in failures[:_FAILURES_SHOWN]:
        print(f"seed {seed}: {'; '.join(violations)[:400]}")
        print(f"  replay: make simulate SEED={seed}")
    return 1 if failures else 0


def _show(seed: int) -> int:
    result, trace = replay(seed)
    print("\n".join(trace))
    for violation in result.violations:
        print(f"VIOLATED  {violation}")
    print(f"seed {seed}: {result.steps} hand-overs, {len(result.violations)} violations")
    return 1 if result.violations else 0


def _print_digests(seeds: range) -> int:
    for seed, digest in digests(seeds):
        print(seed, digest)
    return 0


def _hunt(seeds: int, jobs: int) -> int:
    began = time.monotonic()
    missed = 0
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        hunts = {pool.submit(find, mutant, seeds): mutant for mutant in MUTANTS}
        for hunt in as_completed(hunts):
            mutant, hit = hunts[hunt], hunt.result()
            missed += hit is None
            what = f"seed {hit[0]}: {hit[1][:120]}" if hit else f"not within {seeds} schedules"
            print(f"{'found ' if hit else 'MISSED'}  {mutant.name}: {what}", flush=True)
    lasted = time.monotonic() - began
    print(f"{len(MUTANTS) - missed} of {len(MUTANTS)} planted faults found in {lasted:.0f} s")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
