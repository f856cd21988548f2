"""``turnlock sessions heal``: a healed copy takes a transcript's place.

Under the lease, with no other turn open. What is owed is written first, into the transcript as it
is; then the copy is made of that, and put in its place (``backends.files.replacing`` says why that
is safe). Bytes that are no entry are kept beside it, as ``doctor --fix`` does; the original is kept
under a name of its own. A transcript that has nothing to heal is left as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from ..backends import Lost
from ..backends.files import FilesBackend
from ..backends.files.fileops import FileOps
from ..backends.files.layout import Layout, Place
from ..backends.files.lease import FileLease
from ..backends.files.storage import Storage
from ..clock import Clock, SystemClock
from ..errors import TranscriptError
from ..session import SessionKey
from ..transcript.entries import VERSION
from ..transcript.healing import Changes, Copy
from ..transcript.jsonl import ReadAt, read_lines
from ..transcript.scan import Scan
from ..turns.runtime import Runtime
from ..turns.taking import Attempt, wanted
from ..turns.writer import Writer
from .fragments import TornCopy, to_keep
from .scanning import scan_lines
from .settling import owing

# How long it may hold the session: a waiter takes it from a healer that is over that.
_HOLD_SECONDS = 60.0
_BYTES_PER_SECOND = 2 * 1024 * 1024
# In the transcript at a time while it is compared.
_COMPARED_BYTES = 1024 * 1024


class Healed(NamedTuple):
    """What became of a transcript.

    ``changes`` is None when it was left as it is. ``markers``: how many turns got the terminal
    entry that they owed. ``original`` and ``torn``: where the original and the damaged bytes are.
    """

    path: str
    markers: int
    changes: Changes | None
    original: str | None
    torn: str | None


class Healer:
    """Heals one transcript. ``on_read`` is told of every number of bytes that was read."""

    def __init__(
        self,
        layout: Layout,
        session: SessionKey,
        *,
        files: FileOps | None = None,
        clock: Clock | None = None,
        on_read: Callable[[int], object] | None = None,
    ) -> None:
        self._files = files or FileOps()
        self._clock = clock or SystemClock()
        self._backend = FilesBackend(layout, files=self._files, clock=self._clock)
        self._runtime = Runtime(clock=self._clock)
        self._session = session
        self._place: Place = layout.place(session)
        self._on_read = on_read
        self._markers = 0

    def heal(self, *, wait: float | None) -> Healed:
        """Take the session and heal its transcript; waits ``wait`` seconds for a busy one.

        Raises `SessionBusy`, and `TranscriptError` or `StoreError` when it could not be done; the
        transcript then is as it was, but for what was owed.
        """
        path = self._place.transcript
        with Storage("heal", path):
            size = self._files.stat_path(path).st_size
        held = self._take(wait, _HOLD_SECONDS + size / _BYTES_PER_SECOND)
        try:
            with Storage("heal", path):
                return self._healed(held)
        except Lost:
            why = "somebody took the session while it was healed; nothing was replaced"
            raise TranscriptError(path, why) from None
        finally:
            self._backend.release(held)

    def _take(self, wait: float | None, max_hold: float) -> FileLease:
        want = wanted(self._session, wait=wait, max_hold=max_hold, is_turn=False)
        started = self._clock.monotonic()
        held = Attempt(self._runtime, self._backend, want, started=started).run()
        assert isinstance(held, FileLease)
        return held

    def _healed(self, held: FileLease) -> Healed:
        read_at, size = self._content(held)
        scan = scan_lines(read_at)
        if scan.versions:
            why = f"its header is of version {scan.versions[0]!r:.50}, and only {VERSION} is healed"
            raise TranscriptError(self._place.transcript, why)
        held.tail = owing(held.tail, scan.unfinished)
        if held.tail.owes or held.owed:
            self._settle(held)
            read_at, size = self._content(held)
            scan = scan_lines(read_at)
        lines = self._copy(scan).lines(read_lines(read_at, fragment=True))
        if _is_same(lines, read_at, size):
            return Healed(self._place.transcript, self._markers, None, None, None)
        torn = self._keep_damage(scan)
        changes, original = self._replace(held, scan, read_at, size)
        return Healed(self._place.transcript, self._markers, changes, original, torn)

    def _settle(self, held: FileLease) -> None:
        def count(_: object) -> None:
            self._markers += 1

        label = self._place.label
        writer = Writer(
            self._backend, held, self._clock, label=label, turn_id=None, on_marked=count
        )
        writer.settle()

    def _content(self, held: FileLease) -> tuple[ReadAt, int]:
        read, size = self._backend.content(held)

        def read_at(offset: int, length: int) -> bytes:
            found = read(offset, max(0, min(length, size - offset)))
            if self._on_read is not None:
                self._on_read(len(found))
            return found

        return read_at, size

    def _copy(self, scan: Scan) -> Copy:
        return Copy(scan, self._backend.header_line, self._clock.wall())

    def _keep_damage(self, scan: Scan) -> str | None:
        if not scan.damaged:
            return None
        copy = TornCopy(self._files, self._place.transcript, clock=self._clock)
        copy.keep([to_keep(one.offset, one.raw) for one in scan.damaged])
        return copy.path

    def _replace(
        self, held: FileLease, scan: Scan, read_at: ReadAt, size: int
    ) -> tuple[Changes, str]:
        copy = self._copy(scan)
        replacement = self._backend.replacement(held)
        try:
            for line in copy.lines(read_lines(read_at, fragment=True)):
                replacement.write(line)
            original = replacement.put(size)
        except BaseException:
            replacement.discard()
            raise
        return copy.changes(), original


def _is_same(lines: Iterable[bytes], read_at: ReadAt, size: int) -> bool:
    """Whether the transcript is what the lines make."""
    at = 0
    block = b""
    begin = 0
    for line in lines:
        while len(block) - (at - begin) < len(line):
            begin, block = at, block[at - begin :]
            more = read_at(begin + len(block), _COMPARED_BYTES)
            if not more:
                return False
            block += more
        if block[at - begin : at - begin + len(line)] != line:
            return False
        at += len(line)
    return at == size
