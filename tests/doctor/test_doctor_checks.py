"""The smaller checks: directories, file systems, strays, modes, gateway; and their isolation."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import turnlock
from tests.doctor.planting import (
    HEADER,
    claim_of,
    found,
    gone_pid,
    lock,
    make_old,
    names,
    sleeper,
    transcript,
)
from turnlock.clock import SystemClock, iso
from turnlock.doctor import live
from turnlock.doctor.checks import CHECKS
from turnlock.doctor.checks.file_system import check_of, file_system_of, mounted
from turnlock.doctor.condition import Condition
from turnlock.doctor.examination import Examination
from turnlock.doctor.examine import examine, run_checks
from turnlock.doctor.findings import KINDS, Finding, finding
from turnlock.doctor.live import gateway_of
from turnlock.doctor.looking import CannotLook
from turnlock.doctor.presence import remove_left
from turnlock.gateway.owning import Ownership, own


def failing(examination: Examination) -> Iterator[Finding]:
    yield finding("file-mode", "/seen", "before it fails", "none")
    raise ZeroDivisionError("by zero")


@pytest.mark.parametrize("index", range(len(CHECKS)), ids=[name for name, _ in CHECKS])
def test_a_check_that_crashes_stops_no_other(state: Path, index: int) -> None:
    lock(state, claim_of(gone_pid()))
    transcript(state, "torn", HEADER + b"{")
    sound = set(names(run_checks(Examination(str(state)), CHECKS)))
    checks = [(n, failing if i == index else check) for i, (n, check) in enumerate(CHECKS)]
    report = run_checks(Examination(str(state)), checks)
    crash = next(one for one in report.findings if one.check == "check-crashed")
    name = CHECKS[index][0]
    assert crash.message == f"check crashed: {name}: ZeroDivisionError: by zero"
    own = {"locks": {"stale-lock"}, "transcripts": {"torn-tail"}}.get(name, set())
    assert set(names(report)) == (sound - own) | {"check-crashed", "file-mode"}
    assert not report.is_sound


def test_a_crash_of_the_locks_check_lets_nobody_be_taken_for_dead(state: Path) -> None:
    lock(state, claim_of(gone_pid()))
    path = transcript(state, content=HEADER + b"{")
    checks = [(name, failing if name == "locks" else check) for name, check in CHECKS]
    report = run_checks(Examination(str(state), fix=True), checks)
    assert "torn-tail" not in names(report)
    assert path.read_bytes() == HEADER + b"{"


def test_every_kind_of_finding_says_what_it_means() -> None:
    for name, kind in KINDS.items():
        assert name == name.lower()
        assert kind.severity in ("error", "warning", "info")
        assert kind.meaning


@pytest.mark.parametrize("what", ["missing", "a file"])
def test_without_a_directory_doctor_cannot_look(state: Path, what: str) -> None:
    if what == "a file":
        state.write_text("")
    with pytest.raises(CannotLook):
        examine(str(state))


def test_an_empty_directory_is_sound(state: Path) -> None:
    state.mkdir()
    assert examine(str(state), fix=True).is_sound
    assert list(state.iterdir()) == []


@pytest.mark.parametrize(
    ("mode", "check"), [(0o777, "directory-mode"), (0o770, "directory-group"), (0o755, None)]
)
def test_a_directory_that_others_may_write_is_found(
    state: Path, mode: int, check: str | None
) -> None:
    sessions = transcript(state).parent
    state.chmod(0o755)
    sessions.chmod(mode)
    assert list(found(state)) == ([check] if check else [])
    if check:
        assert found(state)[check].path == str(sessions)


def test_behind_a_closed_door_modes_do_not_matter(state: Path) -> None:
    sessions = transcript(state).parent
    sessions.chmod(0o777)
    state.chmod(0o700)
    assert examine(str(state)).findings == ()


def test_files_of_ours_that_others_may_read_are_found(state: Path) -> None:
    with turnlock.open_store(state).turn("main/a") as turn:
        turn.append(turnlock.user("hello"))
        sessions = transcript(state, content=None).parent
        for path in sessions.iterdir():
            path.chmod(0o644)
        transcript(state, "foreign").chmod(0o644)
        [note] = examine(str(state)).findings
    assert (note.check, note.severity) == ("file-mode", "info")
    assert "a.jsonl.lock and 1 more" in note.message


MOUNTS = [("/", "ext4"), ("/data", "nfs4"), ("/data/local", "xfs"), ("/dat", "9p"), ("/", "btrfs")]


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/data/x", "nfs4"), ("/data", "nfs4"), ("/database", "btrfs"), ("/data/local/x", "xfs"),
     ("/dat/x", "9p")],
)  # fmt: skip
def test_a_path_is_on_the_last_and_longest_mount(path: str, kind: str) -> None:
    assert file_system_of(path, MOUNTS) == kind


@pytest.mark.parametrize(
    ("kind", "check"),
    [("nfs4", "network-file-system"), ("cifs", "network-file-system"),
     ("fuse.sshfs", "network-file-system"), ("fuse.x", "file-system"), ("9p", "file-system"),
     ("ext4", None), ("tmpfs", None), ("unknown", None)],
)  # fmt: skip
def test_file_locks_serve_one_host(kind: str, check: str | None) -> None:
    assert check_of(kind) == check


def test_this_system_says_where_its_files_are() -> None:
    assert file_system_of("/proc/self", mounted()) == "proc"


def stray(state: Path, name: str = "a.jsonl.0123456789abcdef.tmp") -> Path:
    path = transcript(state).parent / name
    path.write_bytes(b"{}")
    make_old(path, 3600)
    return path


def test_a_stray_of_a_dead_maker_is_removed(state: Path) -> None:
    path = stray(state)
    assert list(found(state)) == ["stray-file"]
    assert path.exists()
    assert found(state, fix=True)["stray-file"].fixed
    assert not path.exists()


def test_a_stray_that_somebody_has_flocked_is_live(state: Path) -> None:
    path = stray(state, "a.jsonl.lock.0123456789abcdef.tmp")
    with path.open() as maker:
        fcntl.flock(maker, fcntl.LOCK_EX)
        assert examine(str(state), fix=True).findings == ()
    assert list(found(state, fix=True)) == ["stray-file"]


def test_a_young_stray_may_have_a_maker(state: Path) -> None:
    make_old(stray(state), 5)
    assert examine(str(state), fix=True).findings == ()


def test_the_maker_of_a_transcript_may_be_waiting_for_its_disk(state: Path) -> None:
    """Nothing but its age tells that it lives: the file is not flocked, as a flock is a guard."""
    make_old(stray(state), 600)
    claim = stray(state, "a.jsonl.lock.0123456789abcdef.tmp")
    make_old(claim, 600)
    assert [one.path for one in examine(str(state), fix=True).findings] == [str(claim)]


@pytest.mark.parametrize("name", ["a.jsonl.tmp", "a.txt.0123456789abcdef.tmp", "notes.tmp"])
def test_a_file_with_another_name_is_no_stray(state: Path, name: str) -> None:
    path = stray(state, name)
    assert examine(str(state), fix=True).findings == ()
    assert path.exists()


def gateway_file(state: Path, content: object) -> None:
    state.mkdir(exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (state / "gateway.json").write_text(text)


@contextmanager
def healthy() -> Iterator[str]:
    """The url of a server that answers one request."""

    def answer(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer, args=(listener,), daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_gateway_that_runs_is_named(state: Path) -> None:
    now = iso(SystemClock().wall())
    with healthy() as url:
        gateway_file(state, {"pid": os.getpid(), "url": url, "started": now})
        note = found(state)["gateway-running"]
    assert url in note.message
    assert note.severity == "info"


def test_a_gateway_whose_port_is_closed_is_broken(state: Path) -> None:
    gateway_file(state, {"pid": os.getpid(), "url": "http://127.0.0.1:1"})
    broken = found(state)["gateway-wedged"]
    assert broken.severity == "error"
    assert f"process {os.getpid()} at http://127.0.0.1:1, runs, but its port is closed" in (
        broken.message
    )
    assert f"kill {os.getpid()}" in broken.hint
    assert not examine(str(state), fix=True).is_sound


def test_a_gateway_that_is_gone_is_named_and_what_it_left_removed(state: Path) -> None:
    gateway_file(state, {"pid": gone_pid(), "url": "http://127.0.0.1:1"})
    assert list(found(state)) == ["gateway-gone"]
    assert found(state, fix=True)["gateway-gone"].fixed
    assert list(state.iterdir()) == []


def test_who_had_the_lock_and_has_it_no_more_is_gone_though_its_process_lives(state: Path) -> None:
    """A4: a new image of the same process."""
    said = {"pid": os.getpid(), "url": "http://127.0.0.1:1", "v": 1}
    gateway_file(state, said)
    (state / "gateway.lock").write_text(json.dumps(said))
    assert [one.check for one in examine(str(state)).findings] == ["gateway-gone"] * 2


def test_of_a_gateway_that_starts_just_now_nothing_is_removed(state: Path) -> None:
    gateway_file(state, {"pid": gone_pid(), "url": "http://127.0.0.1:1"})
    owned = own(str(state))
    (one,) = examine(str(state), fix=True).findings
    assert (one.check, one.fixed) == ("gateway-running", False)
    assert f"as process {os.getpid()}; it is starting" in one.message
    assert not remove_left(str(state), ["gateway.json"])
    assert (state / "gateway.json").exists()
    owned.close()


@contextmanager
def dribbling(beginning: bytes) -> Iterator[str]:
    """The url of a server whose answer begins so, and goes on for ever, a few bytes at a time."""
    over = threading.Event()

    def answer(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.sendall(beginning)
            while not over.wait(0.02):
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()


@pytest.mark.parametrize("beginning", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n"])
def test_a_gateway_that_dribbles_is_not_listened_to_for_ever(state: Path, beginning: bytes) -> None:
    """The patience is for all of its answer, and not for each part of it."""
    with dribbling(beginning) as url, sleeper() as process:
        gateway_file(state, {"pid": process.pid, "url": url})
        gateway = gateway_of(str(state), patience=0.5)
        assert gateway is not None
        assert gateway.condition is Condition.BLOCKED


def test_what_a_gateway_holds_is_not_listened_to_for_ever(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_PATIENCE", 0.5)
    beginning = b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n"
    with dribbling(beginning) as url:
        assert live.Gateway(str(state), None, url, Condition.ANSWERS, None).locks() == {}


def test_of_what_a_gateway_left_somebody_else_may_have_removed_a_part(state: Path) -> None:
    gateway_file(state, {"pid": gone_pid(), "url": "http://127.0.0.1:1"})
    assert remove_left(str(state), ["gateway.lock", "gateway.json"])
    assert not (state / "gateway.json").exists()
    assert remove_left(str(state), ["gateway.lock", "gateway.json"])


@pytest.mark.parametrize("fix", [True, False])
def test_a_gateway_that_starts_while_it_is_looked_for_is_not_called_gone(
    state: Path, monkeypatch: pytest.MonkeyPatch, fix: bool
) -> None:
    gone = gone_pid()
    gateway_file(state, {"pid": gone, "url": "http://127.0.0.1:1"})

    def starts_then(root: str) -> None:
        owned.append(own(root))
        gateway_file(state, {"pid": os.getpid(), "url": "http://127.0.0.1:1"})

    owned: list[Ownership] = []
    monkeypatch.setattr("turnlock.doctor.checks.gateway.gateway_of", starts_then)
    left = [one for one in examine(str(state), fix=fix).findings if "gateway" in one.check]
    assert [(one.check, one.fixed) for one in left] == [("gateway-gone", False)]
    assert f"process {gone}," in left[0].message
    owned[0].close()


def test_a_gateway_without_the_lock_beside_one_that_has_it_is_an_error(state: Path) -> None:
    with healthy() as url, sleeper() as process:
        gateway_file(state, {"pid": process.pid, "url": url})
        owned = own(str(state))
        second = found(state)["gateway-second"]
        assert f"process {process.pid} at {url}, answers" in second.message
        assert second.severity == "error"
        owned.close()


def test_a_process_that_began_later_is_another_one(state: Path) -> None:
    with sleeper() as process:
        gateway_file(state, {"pid": process.pid, "started": "2001-01-01T00:00:00.000Z"})
        assert list(found(state)) == ["gateway-gone"]


@pytest.mark.parametrize("content", ["", "[", "[" * 100_000, {"pid": True}, {"pid": 2**80}, [1]])
def test_a_gateway_file_that_says_nothing_is_a_note(state: Path, content: object) -> None:
    gateway_file(state, content)
    assert list(found(state)) == ["gateway-file"]
