"""One target under atheris: ``python -m tests.fuzz.instrumented NAME DIRECTORY HOW […]``.

HOW is ``words``, for inputs that `Mutator` makes, or ``libfuzzer``, for its own. It knows what the
code compares an input with; it knows nothing of words. What follows are its own options.

The package is instrumented, so that what an input reaches in it counts. A finding does not end the
run: each is kept, the smallest input of every kind, and told by where it came from.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["turnlock"]):
    from .harness import Target, check
    from .inputs import Mutator
    from .targets import TARGETS

# The instrumented code is several times slower than what users run.
_CPU_SECONDS = 1.0


class Findings:
    """What was found, a file each: ``<digest>.bin`` with the input, ``<digest>.json`` with how."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._sizes: dict[str, int] = {}
        directory.mkdir(parents=True, exist_ok=True)

    def keep(self, error: BaseException, data: bytes) -> None:
        where = _where(error)
        if self._sizes.get(where, sys.maxsize) <= len(data):
            return
        self._sizes[where] = len(data)
        name = hashlib.sha256(where.encode()).hexdigest()[:12]
        told = "".join(traceback.format_exception(error))
        (self._directory / f"{name}.bin").write_bytes(data)
        (self._directory / f"{name}.json").write_text(json.dumps({"where": where, "how": told}))


def _where(error: BaseException) -> str:
    """The kind of the error, and the innermost lines of ours that it went through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [one for one in frames if "turnlock" in one.filename or "/tests/" in one.filename]
    lines = [f"{Path(one.filename).name}:{one.lineno}" for one in ours[-2:]]
    return f"{type(error).__name__} in {' < '.join(reversed(lines))}"


def fuzz(target: Target, directory: Path, how: str, arguments: list[str]) -> None:
    findings = Findings(directory)

    def run(data: bytes) -> None:
        try:
            check(target, data, cpu=_CPU_SECONDS)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            findings.keep(error, data)

    # (atheris 3.0 cannot do both in one process: its Mutate does not find libFuzzer's.)
    more = {"custom_mutator": Mutator(target)} if how == "words" else {}
    atheris.Setup([sys.argv[0], *arguments], run, **more)
    with contextlib.suppress(SystemExit):
        atheris.Fuzz()


def main(arguments: list[Any]) -> None:
    name, directory, how, *more = arguments
    logging.getLogger("turnlock").addHandler(logging.NullHandler())
    logging.getLogger("turnlock").propagate = False
    warnings.simplefilter("ignore")
    fuzz(TARGETS[name], Path(directory), how, more)


if __name__ == "__main__":
    main(sys.argv[1:])
