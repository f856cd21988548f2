"""Every subject by its name."""

from __future__ import annotations

from . import Subject
from .floors import FLOORS
from .ours import OURS
from .peers import ASYNC_PEERS, PEERS
from .postgres import POSTGRES

SUBJECTS = (*FLOORS, *OURS, *PEERS, *ASYNC_PEERS, *POSTGRES)


def by_name(name: str) -> Subject:
    return next(subject for subject in SUBJECTS if subject.name == name)
