"""What the commands that serve have in common."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ..printable import printable
from .exits import WrongInput
from .log import leave_log_alone
from .terminal import say


@contextlib.contextmanager
def extra_installed(extra: str = "gateway") -> Iterator[None]:
    """Around the import of a service, which needs more than the core install: an extra."""
    leave_log_alone()
    try:
        yield
    except ModuleNotFoundError as error:
        raise WrongInput(
            f"this command needs the package {error.name!r}, which is not installed",
            hint=f"pip install 'turnlock[{extra}]'",
        ) from error


def announce(url: str) -> None:
    """The one line that a serving command prints on stdout."""
    say(printable(url))
