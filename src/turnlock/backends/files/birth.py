"""How claims and transcripts come into being: whole, or not at all."""

from __future__ import annotations

import fcntl
import os

from ...errors import StoreError
from .fileops import FileOps, Handle, give_to, write_all
from .platform import NO_UNNAMED_FILES

_READ_WRITE = os.O_RDWR | os.O_NOFOLLOW


class Newborn:
    """A new file without its final name. Used once: `link`, or `rename_over`, or `discard`."""

    __slots__ = ("_files", "_nursery", "handle", "temporary")

    def __init__(
        self, files: FileOps, nursery: Nursery, handle: Handle, temporary: str | None
    ) -> None:
        self._files = files
        self._nursery = nursery
        self.handle = handle
        self.temporary = temporary

    def link(self, path: str) -> bool:
        """Give it its name; False when the name is taken."""
        try:
            self._link(path)
        except FileExistsError:
            return False
        self._drop_temporary()
        return True

    def rename_over(self, path: str) -> None:
        """Put it in the place of the file at ``path``. Call `name` before, outside of the guard."""
        assert self.temporary is not None, "name() comes first"
        self._files.rename(self.temporary, path)
        self.temporary = None

    def name(self, temporary: str) -> None:
        """Give it a temporary name, as a rename needs one."""
        if self.temporary is None:
            self._link(temporary)
            self.temporary = temporary

    def discard(self) -> None:
        self._drop_temporary()
        self.handle.close()

    def _link(self, path: str) -> None:
        if self.temporary is not None:
            self._files.link(self.temporary, path)
        else:
            self._files.link_unnamed(self.handle, path, self._nursery.proc())

    def _drop_temporary(self) -> None:
        if self.temporary is not None:
            self._files.unlink(self.temporary)
            self.temporary = None


class Nursery:
    """Makes files that are whole when they appear.

    An unnamed file (O_TMPFILE) leaves nothing behind when its maker dies. Where the file system
    has none, a file with a temporary name stands in, and strays of dead makers are clean-up's.
    """

    def __init__(self, files: FileOps, *, unnamed: bool) -> None:
        self._files = files
        self._unnamed = unnamed
        self._proc: Handle | None = None
        self._owners: dict[str, tuple[int, int]] = {}

    def make(self, directory: str, beside: str, content: bytes, *, flocked: bool) -> Newborn:
        """A file with this content, for the path ``beside``. Raises OSError and leaves nothing."""
        newborn = self._open(directory, beside)
        if flocked:
            self._flock(newborn)
        self.fill(newborn, directory, content)
        return newborn

    def prepare(self, directory: str) -> Newborn | None:
        """A file that is flocked, and that `fill` makes whole; None where it would need a name."""
        try:
            newborn = self._open_unnamed(directory) if self._unnamed else None
            if newborn is not None:
                self._flock(newborn)
        except OSError:
            # Whoever needs the file now will be told why there is none.
            return None
        return newborn

    def fill(self, newborn: Newborn, directory: str, content: bytes) -> None:
        """Write the content. Raises OSError and leaves nothing."""
        try:
            write_all(self._files, newborn.handle, content)
            self._give_to_owner(newborn.handle, directory)
        except BaseException:
            # Also what a signal's handler raises: a named file would be left behind.
            newborn.discard()
            raise

    def proc(self) -> Handle:
        # A fork closes every handle, this one too.
        if self._proc is None or self._proc.fd < 0:
            self._proc = self._files.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY)
        return self._proc

    def _flock(self, newborn: Newborn) -> None:
        try:
            self._files.flock(newborn.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            # As in `fill`.
            newborn.discard()
            raise

    def _open_unnamed(self, directory: str) -> Newborn | None:
        try:
            handle = self._files.open(directory, os.O_RDWR | os.O_TMPFILE)
        except OSError as error:
            if not os.path.isdir(directory):
                raise FileNotFoundError(error.errno, error.strerror, directory) from error
            if error.errno not in NO_UNNAMED_FILES:
                raise
            return None
        return Newborn(self._files, self, handle, None)

    def _open(self, directory: str, beside: str) -> Newborn:
        unnamed = self._open_unnamed(directory) if self._unnamed else None
        if unnamed is not None:
            return unnamed
        temporary = temporary_name(beside)
        handle = self._files.open(temporary, _READ_WRITE | os.O_CREAT | os.O_EXCL)
        return Newborn(self._files, self, handle, temporary)

    def _give_to_owner(self, handle: Handle, directory: str) -> None:
        # Under sudo, a file that root owns would lock the owner out of their own session.
        if os.geteuid() != 0:
            return
        owner = self._owners.get(directory)
        if owner is None:
            status = self._files.stat_path(directory)
            owner = self._owners[directory] = (status.st_uid, status.st_gid)
        if owner[0] != 0:
            give_to(self._files, handle, *owner)


def temporary_name(beside: str) -> str:
    """A name that no reader takes for a lock or a transcript."""
    return f"{beside}.{os.urandom(8).hex()}.tmp"


def is_temporary(name: str) -> bool:
    base, _, token = name.removesuffix(".tmp").rpartition(".")
    return (
        name.endswith(".tmp")
        and base.endswith((".jsonl", ".jsonl.lock"))
        and len(token) == 16
        and all(c in "0123456789abcdef" for c in token)
    )


def make_directories(files: FileOps, directory: str) -> None:
    """Make a session directory and what is missing above it, mode 0700, owned like its parent."""
    if os.path.isdir(directory):
        return
    parent = os.path.dirname(directory)
    if parent != directory:
        make_directories(files, parent)
    try:
        files.make_directory(directory)
    except FileExistsError:
        return
    except OSError as error:
        raise StoreError(directory, "make directory", error.strerror or str(error)) from error
    if os.geteuid() == 0:
        owner = files.stat_path(parent)
        if owner.st_uid != 0:
            give_to(files, directory, owner.st_uid, owner.st_gid)
