"""How far a command is that reads a lot: a bar on stderr, one line where that is no terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

import click


@contextlib.contextmanager
def progress(label: str, length: int, *, shown: bool) -> Iterator[Callable[[int], object]]:
    """Gives what is to be called with every number of bytes that was read, of ``length``."""
    if not shown or sys.stderr is None:
        yield lambda _: None
        return
    with click.progressbar(length=max(1, length), label=label, file=sys.stderr) as bar:
        yield bar.update
        bar.update(max(0, length - bar.pos))
