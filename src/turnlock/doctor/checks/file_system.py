"""The file system: file locks serve one host on a local one."""

from __future__ import annotations

import fcntl
import shlex
from collections.abc import Iterable, Iterator

import psutil

from ..examination import Examination
from ..findings import Finding, finding

_NETWORK = frozenset(
    {
        "afs", "beegfs", "ceph", "cifs", "davfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs",
        "nfs", "nfs3", "nfs4", "ocfs2", "smb2", "smb3", "smbfs", "webdav",
    }
)  # fmt: skip
# Of another kernel, or of a program: often local, but the locks are theirs.
_INDIRECT = frozenset({"9p", "fuse", "fuseblk", "vboxsf", "virtiofs", "vmhgfs"})


def check_file_system(examination: Examination) -> Iterator[Finding]:
    root = examination.root
    kind = file_system_of(root, mounted()) or "unknown"
    check = check_of(kind)
    if check is not None:
        yield finding(
            check,
            root,
            f"it is on {kind}, where file locks may not reach everybody who sees the files: if more"
            " than one host uses this directory, two of them can hold one session",
            "use it from one host only, or keep it on a local file system (--state-dir)",
        )
    for directory in examination.survey.directories[:1]:
        why = _why_no_locks(examination, directory.path)
        if why is not None:
            yield finding(
                "no-file-locks",
                directory.path,
                f"flock does not work here: {why}",
                f"move it to a local file system; findmnt -T {shlex.quote(root)} names this one",
            )


def mounted() -> list[tuple[str, str]]:
    """(mount point, kind) in the order of mounting."""
    return [(one.mountpoint, one.fstype) for one in psutil.disk_partitions(all=True)]


def file_system_of(path: str, mounts: Iterable[tuple[str, str]]) -> str | None:
    """The kind of file system that a real path is on: of the longest mount point, the last."""
    kind: str | None = None
    length = 0
    for point, mounted_kind in mounts:
        below = point.rstrip("/") + "/"
        if (path == point or path.startswith(below)) and len(below) >= length:
            kind, length = mounted_kind, len(below)
    return kind


def check_of(kind: str) -> str | None:
    """What doctor has to say about a kind of file system: a finding's name, or nothing."""
    family = kind.partition(".")[0]
    if kind in _NETWORK or kind == "fuse.sshfs":
        return "network-file-system"
    return "file-system" if family in _INDIRECT else None


def _why_no_locks(examination: Examination, directory: str) -> str | None:
    handle = examination.files.open_directory(directory)
    try:
        examination.files.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        examination.files.flock(handle, fcntl.LOCK_UN)
    except BlockingIOError:
        return None
    except OSError as error:
        return error.strerror or str(error)
    finally:
        handle.close()
    return None
