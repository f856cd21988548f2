"""What a mutant is, and the copy of the package that has it."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "turnlock"


class MutantError(Exception):
    """An edit does not fit the code any more: the code moved on, and the mutant has to follow."""


class Edit(NamedTuple):
    """``old``, which the file holds exactly once, becomes ``new``. ``path`` is below the package.

    An empty ``old`` puts ``new`` at the file's end.
    """

    path: str
    old: str
    new: str

    def apply(self, text: str) -> str:
        if not self.old:
            return f"{text}\n\n{self.new}\n"
        found = text.count(self.old)
        if found != 1:
            raise MutantError(f"{self.path} has {found} times, and not once: {self.old!r}")
        return text.replace(self.old, self.new)


class Change(NamedTuple):
    """The bytes from ``start`` to ``stop`` of a module become ``new``. ``path`` is as in `Edit`."""

    path: str
    start: int
    stop: int
    new: str

    def apply(self, text: str) -> str:
        raw = text.encode()
        return (raw[: self.start] + self.new.encode() + raw[self.stop :]).decode()


def appended(path: str, code: str) -> Edit:
    """Code at the end of a module: for a fault that takes another body, or a naive stand-in."""
    return Edit(path, "", textwrap.dedent(code).strip())


class Mutant:
    """A fault by its name, in words, and what it changes.

    ``caught_by``: tests of ``make test`` that fail with it, by node id, the likeliest first; none
    for a fault that a test of the failure suite names as what it bites.
    """

    def __init__(
        self, name: str, *edits: Edit | Change, caught_by: str | Sequence[str] = ()
    ) -> None:
        self.name = name
        self.edits = edits
        self.caught_by = (caught_by,) if isinstance(caught_by, str) else tuple(caught_by)

    def __repr__(self) -> str:
        return f"<Mutant {self.name}>"

    def write_into(self, package: Path) -> None:
        """Make the edits in a copy of the package. Raises `MutantError`."""
        for edit in self.edits:
            path = package / edit.path
            path.write_text(edit.apply(path.read_text(encoding="utf-8")), encoding="utf-8")


@contextmanager
def mutated(mutant: Mutant) -> Iterator[Path]:
    """A directory for ``PYTHONPATH`` with a copy of the package that has the fault.

    Compiled files are copied with their sources' times, so that only what was edited is compiled.
    """
    with TemporaryDirectory(prefix="turnlock-mutant-") as directory:
        package = Path(directory) / PACKAGE.name
        shutil.copytree(PACKAGE, package)
        for edit in mutant.edits:
            path = package / edit.path
            for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
                compiled.unlink()
        mutant.write_into(package)
        yield Path(directory)
