"""`FileOps` is the one door: what it sees is what the kernel is asked for.

Every sweep counts the calls of `FileOps`. A call that went past it would be swept by none, so the
kernel's own list, from strace, is compared with the recorded one.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.mutants.mutant import ROOT

pytestmark = pytest.mark.processes

# By system call, the calls of ours that make it.
_DOORS = {
    "openat": {"open"},
    "write": {"write"},
    "linkat": {"link", "link_unnamed"},
    "rename": {"rename"},
    "unlink": {"unlink"},
    "mkdir": {"make_directory"},
    "fsync": {"fsync"},
    "fdatasync": {"fdatasync"},
    "flock": {"flock"},
    "fchown": {"chown"},
    "chown": {"chown_path"},
    "lchown": {"chown_path"},
}
_SAME = {"renameat": "rename", "renameat2": "rename", "unlinkat": "unlink", "mkdirat": "mkdir"}
_SAME |= {"open": "openat", "creat": "openat", "link": "linkat", "fchownat": "chown"}
# Nothing of ours may change a file in any of these ways.
_OTHERS = (
    "truncate ftruncate fallocate chmod fchmod fchmodat utimensat symlink symlinkat mknod mknodat"
    " pwrite64 pwritev writev rmdir setxattr fsetxattr removexattr copy_file_range sendfile"
)
# "123  fsync(5</path>) = 0", or what another thread's call comes between: "fsync(5</path> <unfin…"
_CALL = re.compile(r"\d+ +(\w+)\((.*)(?:\) += |<unfinished)")

_STORY = """
import sys
from tests.sweeps.calls import Watcher, watch
from tests.sweeps.clients import Client
from tests.sweeps.stories import MESS, cleans_up, left_in_a_mess, runs_doctor, turns
from turnlock.store import open_store

seen = open(sys.argv[2], "w", buffering=1)

class Lists(Watcher):
    def before(self, number, call, arguments):
        print(call, file=seen)

watch(Lists())
client = Client(open_store(sys.argv[1]), lambda told: None, "traced")
turns(client)
cleans_up(client)
runs_doctor(client)
"""


def traced(program: str, *arguments: object, prefix: tuple[str, ...] = ()) -> None:
    command = [*prefix, sys.executable, "-c", program, *map(str, arguments)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)


def can_trace() -> bool:
    if shutil.which("strace") is None:
        return False
    probe = ["strace", "-o", os.devnull, "true"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_trace(), reason="there is no strace, or it may not trace")
def test_no_system_call_on_a_session_goes_past_the_door(tmp_path: Path) -> None:
    root, log, seen = tmp_path / "state", tmp_path / "trace", tmp_path / "seen"
    root.mkdir()
    prepared = (
        "import sys; from tests.sweeps.stories import left_in_a_mess;"
        "left_in_a_mess(sys.argv[1], lambda told: None)"
    )
    traced(prepared, root)
    names = ",".join(f"?{name}" for name in [*_DOORS, *_SAME, *_OTHERS.split()])
    traced(
        _STORY, root, seen, prefix=("strace", "-f", "-y", "-e", f"trace={names}", "-o", str(log))
    )
    asked = of_kernel(log.read_text(), str(root))
    calls = Counter(seen.read_text().split())
    for system_call, doors in _DOORS.items():
        made = sum(calls[door] for door in doors)
        if system_call in ("openat", "flock", "fsync"):
            # Ours also opens what it only reads, and syncs the directory above the state's.
            assert 0 < asked[system_call] <= made, (system_call, asked, calls)
        else:
            assert asked[system_call] == made, (system_call, asked, calls)
    assert not {name: asked[name] for name in _OTHERS.split() if asked[name]}


def of_kernel(log: str, root: str) -> Counter[str]:
    """What the kernel was asked for on files below a directory; of opens those to write."""
    found: Counter[str] = Counter()
    for line in log.splitlines():
        call = _CALL.match(line)
        if call is None or root not in call[2]:
            continue
        name = _SAME.get(call[1], call[1])
        if name == "openat" and not re.search("O_WRONLY|O_RDWR|O_CREAT|O_TRUNC", call[2]):
            continue
        found[name] += 1
    return found
