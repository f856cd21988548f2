"""Commands that only look: what they cannot read is no failed operation of theirs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import click

from ..doctor.looking import CannotLook
from ..errors import StoreError, TranscriptError
from .options import state_directory


@contextlib.contextmanager
def looking(ctx: click.Context) -> Iterator[None]:
    """Raises `CannotLook` in place of the storage's errors."""
    try:
        yield
    except CannotLook:
        raise
    except (StoreError, TranscriptError) as error:
        raise CannotLook(error.path, error.why, error.hint) from error
    except PermissionError as error:
        path = error.filename or state_directory(ctx)
        hint = "look at it as its owner, or with sudo"
        raise CannotLook(str(path), error.strerror or str(error), hint) from error
