"""``python -m bench.scale``: measure, compute, write. See ``--help``."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.postgres.server import programs

from ..contenders import ROOT
from ..database import ABSENT
from ..machine import Others, describe
from ..measure import a_directory
from ..results import short
from .cost import Changed, Cost
from .measuring import FULL, QUICK, Measured, measured
from .page import page

_ELSEWHERE = ".bench/quick"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a rehearsal, with small numbers")
    parser.add_argument("--page", action="store_true", help="only write the page anew")
    parser.add_argument("--directory", help="measure in a temporary directory in this one")
    parser.add_argument("--write", metavar="DIR", help=f"default: docs; {_ELSEWHERE} for --quick")
    arguments = parser.parse_args()
    directory = Path(arguments.write or ROOT / (_ELSEWHERE if arguments.quick else "docs"))
    numbers = directory / "benchmarks" / "scale.json"
    if not arguments.page:
        if programs() is None:
            print(ABSENT, file=sys.stderr)
            return 1
        run = _run(quick=arguments.quick, inside=arguments.directory)
        numbers.parent.mkdir(parents=True, exist_ok=True)
        numbers.write_text(json.dumps(run, indent=1, ensure_ascii=False) + "\n")
    text = page_of(json.loads(numbers.read_text()))
    (directory / "design").mkdir(exist_ok=True)
    (directory / "design" / "scale.md").write_text(text)
    print(text)
    return 0


def _run(*, quick: bool, inside: str | None) -> dict[str, Any]:
    logging.disable()
    others = Others()
    with a_directory(inside) as directory:
        machine = describe(directory)
        found = measured(directory, QUICK if quick else FULL, _say)
    return {"machine": machine, "warning": others.warning(), "measured": as_json(found)}


def _say(text: str) -> None:
    print(f"{text} …", file=sys.stderr, flush=True)


def as_json(found: Any) -> Any:
    """Names and numbers, of these rounded to what they say."""
    if hasattr(found, "_asdict"):
        found = found._asdict()
    if isinstance(found, dict):
        return {name: as_json(value) for name, value in found.items()}
    return short(found)


def page_of(run: Mapping[str, Any]) -> str:
    """The page of numbers as they are kept."""
    return page(run["machine"], run["warning"], numbers_of(run))


def numbers_of(run: Mapping[str, Any]) -> Measured:
    kept = dict(run["measured"])
    kept["costs"] = {name: Cost(**cost) for name, cost in kept["costs"].items()}
    kept["changed"] = Changed(**kept["changed"])
    return Measured(**kept)


if __name__ == "__main__":
    sys.exit(main())
