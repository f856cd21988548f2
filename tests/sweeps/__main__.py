"""``python -m tests.sweeps``: faults at every file call, and chaos; see the package's docstring."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from .calls import Point
from .parts import PARTS
from .pool import Work
from .scenes import say, workshop
from .tally import Tally

_FAILURES_SHOWN = 10


def main() -> int:
    arguments = _parser().parse_args()
    failed = 0
    for part in [arguments.part] if arguments.part else PARTS:
        failed += _run(part, arguments)
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.sweeps", description=__doc__)
    parser.add_argument("--part", choices=PARTS, help="one of them (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="where to begin (default 0)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--quick", action="store_true", help="a few of all points: seconds")
    parser.add_argument("--stride", type=int, help="only every so manieth of all points")
    parser.add_argument("--seconds", type=float, default=300.0, help="of chaos (default 300)")
    parser.add_argument("--only", default="", help="only stories with this in their names")
    parser.add_argument("--at", type=Point.parse, help="only this point: 'before call 12'")
    return parser


def _run(part: str, arguments: argparse.Namespace) -> int:
    module = import_module(f"tests.sweeps.{PARTS[part]}")
    sweep: Callable[[Work], Tally] = module.sweep
    began = time.monotonic()
    with workshop() as at:
        tally = sweep(_work(at, module, arguments))
    tally.expect_fired()
    lasted = time.monotonic() - began
    say(f"{part}, seed {arguments.seed}: {lasted:.0f} s; {len(tally.failures)} failed")
    for line in tally.lines():
        say(f"  {line}")
    for failure in tally.failures[:_FAILURES_SHOWN]:
        say(f"FAILED {part}: {failure.where}: {failure.what}")
    return len(tally.failures)


def _work(at: Path, module: Any, arguments: argparse.Namespace) -> Work:
    work = Work(
        at,
        arguments.seed,
        arguments.jobs,
        seconds=arguments.seconds,
        only=arguments.only,
        point=arguments.at,
    )
    if arguments.quick:
        work = module.quick(work)
    return work if arguments.stride is None else work._replace(stride=arguments.stride)


if __name__ == "__main__":
    sys.exit(main())
