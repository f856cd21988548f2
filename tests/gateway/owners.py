"""Processes that own a state directory, as a gateway does and without its network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from turnlock.doctor.live import AlreadyServed
from turnlock.gateway.owning import own

from ..helpers import Child, child

OWN = """
    import os
    from turnlock.doctor.condition import Stage
    from turnlock.gateway.owning import own
    os.makedirs(sys.argv[1], exist_ok=True)
    owned = own(sys.argv[1])
"""
# A stage, and a url where it has one, for every line that the process is told.
SAY = """
    print("owned", flush=True)
    for line in sys.stdin:
        stage, _, url = line.strip().partition(" ")
        owned.say(Stage(stage), url)
        print("said", flush=True)
"""


@contextmanager
def owner(state: Path, more: str = SAY) -> Iterator[Child]:
    with child(OWN + more, state) as process:
        process.expect("owned")
        yield process


def say(process: Child, stage: str, url: str = "") -> None:
    process.tell(f"{stage} {url}")
    process.expect("said")


def refused(state: Path) -> AlreadyServed:
    """The error that a start ends in; what could be owned is given up again."""
    with pytest.raises(AlreadyServed) as caught:
        own(str(state)).close()
    return caught.value


def is_free(state: Path) -> bool:
    own(str(state)).close()
    return True
