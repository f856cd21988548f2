"""Reads of files for requests: off the event loop, few at a time, and none waited for for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from ..errors import LockPathError, StoreError, TranscriptError
from ..turns.aio import on_worker
from .errors import storage_error, too_many

T = TypeVar("T")

# A read that hangs on a frozen disk keeps its thread until the disk is back.
_MOST = 64


class Reading:
    """Belongs to one event loop. ``patience`` in seconds."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._under_way = 0

    async def run(self, job: Callable[[], T]) -> T:
        """What the job returns. Raises `Refusal` when it fails, when it hangs, or instead of it."""
        if self._under_way >= _MOST:
            raise too_many("too_many_reads", f"{_MOST} reads of files are under way")
        try:
            future = on_worker(job)
            self._under_way += 1
            future.add_done_callback(self._on_done)
            async with asyncio.timeout(self._patience):
                return await asyncio.shield(future)
        except TimeoutError:
            text = f"the storage did not answer in {self._patience:g} s"
            raise storage_error(text) from None
        except (StoreError, LockPathError, TranscriptError, OSError) as error:
            raise storage_error(str(error)) from error

    def _on_done(self, future: asyncio.Future[T]) -> None:
        self._under_way -= 1
