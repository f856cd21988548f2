"""``python -m bench``: measure, draw, write. See ``--help``."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
import traceback
from pathlib import Path

from .contenders import ROOT
from .machine import Others, describe
from .measure import FULL, QUICK, Bench, Measure, a_directory
from .measures import MEASURES
from .page import Run, page
from .results import Result

# Where what is not the whole run is written.
_ELSEWHERE = ".bench/quick"


def main() -> int:
    arguments = _arguments()
    chosen = [measure for measure in MEASURES if measure.name in arguments.measure]
    is_whole = not arguments.quick and len(chosen) == len(MEASURES)
    directory = Path(arguments.write or ROOT / ("docs" if is_whole else _ELSEWHERE))
    if arguments.page:
        write(directory, kept(directory))
        return 0
    run = measured(chosen, quick=arguments.quick, directory=arguments.directory)
    write(directory, run)
    return 1 if len(run.results) < len(chosen) else 0


def _arguments() -> argparse.Namespace:
    names = [measure.name for measure in MEASURES]
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a rehearsal, with small numbers")
    parser.add_argument("--page", action="store_true", help="only write page and pictures anew")
    parser.add_argument("--measure", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--directory", help="measure in a temporary directory in this one")
    parser.add_argument(
        "--write", metavar="DIR", help=f"write there (default: docs; {_ELSEWHERE} for less)"
    )
    return parser.parse_args()


def measured(chosen: list[Measure], *, quick: bool, directory: str | None) -> Run:
    # Revocations and take-overs are what is measured here, and no news.
    logging.disable()
    others = Others()
    with a_directory(directory) as place:
        machine = describe(place)
        bench = Bench(QUICK if quick else FULL, place)
        results = [_result(bench, measure) for measure in chosen]
    warning = others.warning()
    if warning:
        print(f"warning: {warning}", file=sys.stderr)
    return Run(machine, warning, tuple(result for result in results if result is not None))


def _result(bench: Bench, measure: Measure) -> Result | None:
    """None when the measure broke: the others are worth having all the same."""
    print(f"{measure.title} …", file=sys.stderr, flush=True)
    started = time.monotonic()
    try:
        return measure.run(bench)
    except Exception:  # noqa: BLE001 - the frame that isolates the measures; it reports
        traceback.print_exc()
        return None
    finally:
        bench.say(f"{time.monotonic() - started:.0f} s")


def write(directory: Path, run: Run) -> None:
    """The numbers, and the page and its pictures from them as they were written: rounded."""
    from .plots import draw

    pictures = directory / "benchmarks"
    pictures.mkdir(parents=True, exist_ok=True)
    numbers = json.dumps(run.as_json(), indent=1, ensure_ascii=False)
    (pictures / "results.json").write_text(numbers + "\n")
    run = kept(directory)
    (directory / "benchmarks.md").write_text(page(run, MEASURES))
    titles = {measure.name: measure.title for measure in MEASURES}
    for result in filter(lambda one: one.rows, run.results):
        draw(result, titles[result.measure], pictures / f"{result.measure}.svg")
    print(directory / "benchmarks.md")


def kept(directory: Path) -> Run:
    """The run whose numbers are in a directory."""
    return Run.from_json(json.loads((directory / "benchmarks" / "results.json").read_text()))


if __name__ == "__main__":
    sys.exit(main())
