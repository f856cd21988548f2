"""Threads for work that may block for ever: file work of tasks, revocations, verifications.

No bound and no queue: a job that hangs on a frozen disk must not delay the next one. Idle threads
are used again. They are daemons, so that a hung job keeps no interpreter alive, which is also why
this is no `ThreadPoolExecutor`: that one joins its threads at exit.

There is no lock in here: a finalizer that the collector runs may submit a job, and it runs in
whatever thread is just inside of here.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

logger = logging.getLogger("turnlock")

_IDLE_SECONDS = 10.0


class _Worker:
    def __init__(self, workers: Workers, job: Callable[[], object]) -> None:
        self.job: Callable[[], object] | None = job
        self.ready = threading.Lock()
        self.ready.acquire()
        self._workers = workers
        threading.Thread(target=self._run, name="turnlock-worker", daemon=True).start()

    def _run(self) -> None:
        while self.job is not None:
            job, self.job = self.job, None
            try:
                job()
            except Exception:
                logger.exception("a worker's job failed")
            del job
            if not self._workers.rest(self):
                return


class Workers:
    """``submit`` runs a job in a thread of its own. A job has to report its own errors.

    Raises RuntimeError, as `threading` does, when no thread can be started.
    """

    def __init__(self) -> None:
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        # Each operation on it is a single one, and so atomic.
        self._idle: list[_Worker] = []

    def submit(self, job: Callable[[], object]) -> None:
        try:
            worker = self._idle.pop()
        except IndexError:
            _Worker(self, job)
        else:
            worker.job = job
            worker.ready.release()

    def rest(self, worker: _Worker) -> bool:
        """Wait for the next job; False when none came for a while."""
        self._idle.append(worker)
        if worker.ready.acquire(timeout=_IDLE_SECONDS):
            return True
        try:
            self._idle.remove(worker)
        except ValueError:
            # A job came in the moment in which the wait ended.
            worker.ready.acquire()
            return True
        return False


workers = Workers()


def submit_or_run(job: Callable[[], object]) -> None:
    """Run a job in a thread of its own, or here, where the system gives no thread any more."""
    try:
        workers.submit(job)
    except RuntimeError:
        job()
