"""Signals that a parent left blocked for this process: a supervisor that reads its own may."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Collection, Iterator


@contextlib.contextmanager
def unblocked(numbers: Collection[signal.Signals]) -> Iterator[None]:
    """Have these signals arrive in this thread meanwhile, and in threads that it starts."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
