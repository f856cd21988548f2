"""A disk as the power may leave it: what was synced, and any part of what was not.

A trace is the operations of one process, in the order in which they were done, with what it told
between them. At every moment there are operations that a crash may lose, each by itself: a write
that no fsync of its file followed, a name that no fsync of its directory followed. A write may also
be there in part, by sectors, or only as a length. What was synced is there.

This is more than most file systems do, and what POSIX allows.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .calls import Watcher

SECTOR = 512


class Write(NamedTuple):
    """``data`` at ``offset`` of a file; a file is known by a number of its own."""

    file: int
    offset: int
    data: bytes


class Name(NamedTuple):
    """A path names this file from now on; or nothing (None). ``gone``: a name that it had until
    then, as of a rename, which is one step.
    """

    path: str
    file: int | None
    gone: str | None = None


class Directory(NamedTuple):
    path: str


class Synced(NamedTuple):
    """A file's bytes are durable, or the names in a directory."""

    file: int | None
    path: str | None = None


Operation = Write | Name | Directory | Synced
# Operations, and what was told between them.
Trace = list[Any]


class Image:
    """What is on a disk: files by number, and names."""

    def __init__(
        self, files: Mapping[int, bytes], names: Mapping[str, int], directories: Iterable[str]
    ) -> None:
        self.files = dict(files)
        self.names = dict(names)
        self.directories = set(directories)

    @classmethod
    def of(cls, root: str) -> Image:
        files: dict[int, bytes] = {}
        names: dict[str, int] = {}
        directories = [root]
        for path in sorted(Path(root).rglob("*")):
            if path.is_dir():
                directories.append(str(path))
            else:
                names[str(path)] = number = len(files) + 1
                files[number] = path.read_bytes()
        return cls(files, names, directories)

    def copy(self) -> Image:
        return Image(self.files, self.names, self.directories)

    def apply(self, operation: Operation) -> None:
        match operation:
            case Write(file, offset, data):
                before = self.files.get(file, b"")[:offset].ljust(offset, b"\0")
                self.files[file] = before + data + self.files.get(file, b"")[offset + len(data) :]
            case Name(path, None):
                self.names.pop(path, None)
            case Name(path, int(file), gone):
                self.names.pop(gone or path, None)
                self.names[path] = file
            case Directory(path):
                self.directories.add(path)

    def reachable(self) -> dict[str, bytes | None]:
        """By path; None for a directory. What lies in a directory that was lost is lost."""
        found: dict[str, bytes | None] = {}
        roots = sorted(self.directories, key=len)
        for path in roots:
            if path == roots[0] or os.path.dirname(path) in found:
                found[path] = None
        for path, file in self.names.items():
            if os.path.dirname(path) in found:
                found[path] = self.files.get(file, b"")
        return found

    def write_to(self, root: Path, *, instead_of: str, modified: float) -> None:
        """Make it real. Every file was modified at that time."""
        for path, data in sorted(self.reachable().items()):
            at = Path(str(root) + path.removeprefix(instead_of))
            if data is None:
                at.mkdir(mode=0o700)
            else:
                at.write_bytes(data)
                at.chmod(0o600)
                os.utime(at, (modified, modified))


class Disk:
    """The disk while a trace is done."""

    def __init__(self, start: Image) -> None:
        self.durable = start.copy()
        self.pending: list[Operation] = []

    def do(self, operation: Operation) -> None:
        if not isinstance(operation, Synced):
            self.pending.append(operation)
            return
        settled = [one for one in self.pending if _settles(operation, one)]
        for one in settled:
            self.durable.apply(one)
        self.pending = [one for one in self.pending if not _settles(operation, one)]

    def images(self) -> Iterator[tuple[str, Image]]:
        """What a crash may leave now, in words."""
        pending = self.pending
        yield "synced only", self.durable
        for number in range(1, len(pending) + 1):
            yield f"the first {number} of {len(pending)} unsynced", self._with(pending[:number])
        for number, one in enumerate(pending):
            lost = pending[:number] + pending[number + 1 :]
            yield f"unsynced {number + 1} lost: {_short(one)}", self._with(lost)
            yield f"of the unsynced only {_short(one)}", self._with([one])
            if isinstance(one, Write):
                yield from self._torn(number, one)

    def _torn(self, number: int, write: Write) -> Iterator[tuple[str, Image]]:
        for what, parts in _parts(write):
            before, behind = self.pending[:number], self.pending[number + 1 :]
            yield f"{what}, the last", self._with([*before, *parts])
            if behind:
                yield f"{what}, and what follows", self._with([*before, *parts, *behind])

    def _with(self, operations: Iterable[Operation]) -> Image:
        image = self.durable.copy()
        for one in operations:
            image.apply(one)
        return image


def _settles(synced: Synced, one: Operation) -> bool:
    match one:
        case Write(file):
            return synced.file == file
        case Name(path) | Directory(path):
            return synced.path == os.path.dirname(path)
    return False


def _parts(write: Write) -> Iterator[tuple[str, list[Operation]]]:
    """A write that is there in part: cut short, a sector missing, or only its length."""
    file, offset, data = write
    length = len(data)
    sectors = range(-(-offset // SECTOR) * SECTOR - offset, length, SECTOR)
    for kept in sorted({1, length // 3, length // 2, length - 1, *sectors} - {0, length}):
        yield f"{kept} of {length} bytes", [Write(file, offset, data[:kept])]
        nuls = bytes(length - kept)
        yield f"{kept} of {length} bytes, then NULs", [Write(file, offset, data[:kept] + nuls)]
    for start in sectors:
        stop = min(start + SECTOR, length)
        hole = data[:start] + bytes(stop - start) + data[stop:]
        yield f"a sector lost at {start} of {length} bytes", [Write(file, offset, hole)]
    yield f"{length} NULs", [Write(file, offset, bytes(length))]


def _short(one: Operation) -> str:
    match one:
        case Write(_, offset, data):
            return f"{len(data)} bytes at {offset}"
        case Name(path, file):
            return f"{os.path.basename(path)} {'gone' if file is None else 'named'}"
    return "a directory made"


class Recorder(Watcher):
    """Writes a trace. ``root`` is as it was when the recording began, all of it durable."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.trace: Trace = []
        self.start = Image.of(root)
        self._names = dict(self.start.names)
        self._sizes = {file: len(data) for file, data in self.start.files.items()}
        self._opened: dict[int, int | str] = {}
        self._lock = threading.Lock()

    def tell(self, what: object) -> None:
        with self._lock:
            self.trace.append(what)

    def instead(
        self, number: int, call: str, arguments: tuple[Any, ...], go_on: Callable[..., Any]
    ) -> Any:
        # One at a time, so that the order of the trace is that of the disk.
        if call == "flock":
            return go_on(*arguments)
        with self._lock:
            result = go_on(*arguments)
            record = getattr(self, f"_did_{call}", None)
            if record is not None:
                record(*arguments, result=result)
            return result

    def _did_open(self, path: str, flags: int, mode: int = 0, *, result: Any) -> None:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            self._opened[result.fd] = self._new()
        elif path in self._names:
            self._opened[result.fd] = self._names[path]
        elif flags & os.O_CREAT:
            self._opened[result.fd] = file = self._new()
            self._name(path, file)
        else:
            self._opened[result.fd] = path

    def _did_write(self, handle: Any, data: bytes, *, result: int) -> None:
        file = self._opened[handle.fd]
        assert isinstance(file, int)
        if result:
            self.trace.append(Write(file, self._sizes[file], bytes(data)[:result]))
            self._sizes[file] += result

    def _did_fsync(self, handle: Any, *, result: object) -> None:
        match self._opened[handle.fd]:
            case int(file):
                self.trace.append(Synced(file))
            case path:
                self.trace.append(Synced(None, path))

    _did_fdatasync = _did_fsync

    def _did_link_unnamed(self, handle: Any, path: str, proc: object, *, result: object) -> None:
        file = self._opened[handle.fd]
        assert isinstance(file, int)
        self._name(path, file)

    def _did_link(self, source: str, path: str, *, result: object) -> None:
        self._name(path, self._names[source])

    def _did_rename(self, source: str, path: str, *, result: object) -> None:
        file = self._names.pop(source)
        self._names[path] = file
        self.trace.append(Name(path, file, source))

    def _did_unlink(self, path: str, *, result: object) -> None:
        self._names.pop(path, None)
        self.trace.append(Name(path, None))

    def _did_make_directory(self, path: str, mode: int = 0, *, result: object) -> None:
        self.trace.append(Directory(path))

    def _new(self) -> int:
        file = len(self._sizes) + 1
        self._sizes[file] = 0
        return file

    def _name(self, path: str, file: int) -> None:
        self._names[path] = file
        self.trace.append(Name(path, file))
