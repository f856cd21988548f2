"""What the model of the protocol found, each at the step at which it went wrong.

Every test puts another's steps between two of ours, where a process may be stopped.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import turnlock
from turnlock.backends import Holder, TakeRequest
from turnlock.backends.files import FilesBackend, StateDirectory
from turnlock.backends.files.fileops import FileOps, Handle
from turnlock.session import parse_key

KEY = parse_key("main/a")
FOREIGN = {"pid": 2**22 + 1, "createdAt": "2026-01-01T00:00:00.000Z"}


class Meanwhile(FileOps):
    """Lets somebody else act just before ``call`` on the lock path, or just after it; once."""

    def __init__(self, call: str, act: Callable[[], object], *, after: bool = False) -> None:
        self._call = call
        self._act: Callable[[], object] | None = act
        self._after = after

    def _around(self, call: str, path: str, go_on: Callable[[], None]) -> None:
        if call != self._call or not path.endswith(".jsonl.lock") or self._act is None:
            go_on()
            return
        act, self._act = self._act, None
        if self._after:
            go_on()
        act()
        if not self._after:
            go_on()

    def rename(self, source: str, target: str) -> None:  # type: ignore[override]
        self._around("rename", target, lambda: super(Meanwhile, self).rename(source, target))

    def unlink(self, path: str) -> None:  # type: ignore[override]
        self._around("unlink", path, lambda: super(Meanwhile, self).unlink(path))

    def link_unnamed(self, handle: Handle, path: str, proc: Handle) -> None:
        go_on = super().link_unnamed
        self._around("link", path, lambda: go_on(handle, path, proc))


def a_backend(state: Path, files: FileOps | None = None) -> FilesBackend:
    return FilesBackend(StateDirectory(str(state)), files=files, guard_timeout=0.05)


def a_dead_lock(state: Path, claim: dict[str, Any] | None = None) -> Path:
    """A lock without transcript; of OpenClaw, or of a turn of ours that wrote nothing."""
    lock = state / "agents/main/sessions/a.jsonl.lock"
    lock.parent.mkdir(parents=True, mode=0o700)
    if claim is not None:
        lock.write_text(json.dumps(claim))
        return lock
    backend = a_backend(state)
    lease = backend.take(KEY, TakeRequest("dead", 60.0))
    assert not isinstance(lease, Holder)
    backend.leave_owing(lease)
    return lock


def test_of_two_that_take_a_dead_lock_without_transcript_one_loses(state: Path) -> None:
    """Check and rename are one step where no transcript is, too: of OpenClaw's no flock tells."""
    a_dead_lock(state, FOREIGN)
    other = a_backend(state)
    got: list[Any] = []

    def take() -> None:
        try:
            got.append(other.take(KEY, TakeRequest("other", 60.0)))
        except turnlock.StoreError:
            got.append(None)

    backend = a_backend(state, Meanwhile("rename", take))
    lease = backend.take(KEY, TakeRequest("mine", 60.0))
    assert not isinstance(lease, Holder)
    assert got == [None]
    assert backend.holds(lease)


def test_clean_up_that_is_stopped_in_its_release_removes_no_successors_lock(state: Path) -> None:
    """The release of a lease without transcript is guarded as well."""
    a_dead_lock(state, FOREIGN)
    other = a_backend(state)
    got: list[Any] = []

    def take() -> None:
        try:
            got.append(other.supersede(KEY, TakeRequest("next", 60.0), lease=None, reason="x"))
        except turnlock.StoreError:
            got.append(None)

    backend = a_backend(state, Meanwhile("unlink", take))
    (record,) = backend.locks()
    lease = backend.reclaim(record, TakeRequest(None, 2.0, header=False))
    assert lease is not None
    backend.release(lease)
    assert got == [None]
    assert not (state / "agents/main/sessions/a.jsonl").exists()
