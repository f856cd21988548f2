"""One gateway per state directory: the kernel decides it, whatever lies in the directory."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pickle
import shutil
import stat
import subprocess
import sys
import textwrap
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from turnlock import StoreError
from turnlock.backends.files.fileops import FileOps, Handle
from turnlock.clock import SystemClock
from turnlock.doctor import presence
from turnlock.doctor.condition import Condition, Stage
from turnlock.doctor.live import AlreadyServed, gateway_of
from turnlock.gateway import owning
from turnlock.gateway.owning import own

from ..doctor.planting import bytes_of
from ..helpers import child, eventually
from .owners import OWN, is_free, owner, refused, say


@pytest.fixture
def made(state: Path) -> Path:
    state.mkdir()
    return state


def record(state: Path) -> dict[str, object]:
    found = json.loads((state / "gateway.lock").read_text())
    assert isinstance(found, dict)
    return found


# Who it is


def test_the_second_is_refused_and_changes_nothing(made: Path) -> None:
    owned = own(str(made))
    owned.say(Stage.DRAINING, "http://127.0.0.1:1")
    before = bytes_of(made)
    error = refused(made)
    assert bytes_of(made) == before
    assert (error.path, error.pid, error.condition) == (str(made), os.getpid(), "draining")
    assert error.url == "http://127.0.0.1:1"
    assert f"process {os.getpid()} at http://127.0.0.1:1, is shutting down" in str(error)
    assert "it is of this very process: end it first" in error.hint
    owned.close()
    assert is_free(made)


def test_without_the_lock_both_would_have_it(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = own(str(made))
    with monkeypatch.context() as patched:
        patched.setattr(owning, "_try", lambda *given: True)
        own(str(made)).close()
    first.close()


def test_who_owns_it_is_written_for_people_and_gone_with_it(made: Path) -> None:
    owned = own(str(made))
    path = made / "gateway.lock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (record(made)["pid"], record(made)["stage"]) == (os.getpid(), "starting")
    owned.say(Stage.SERVING, "http://127.0.0.1:1")
    assert record(made)["url"] == "http://127.0.0.1:1"
    owned.close()
    owned.close()
    owned.say(Stage.DRAINING)
    assert not path.exists()


def test_its_facts_cross_processes(made: Path) -> None:
    owned = own(str(made))
    error = refused(made)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (AlreadyServed, str(error), vars(error))
    owned.close()


def test_what_a_dead_gateway_was_writing_is_removed(made: Path) -> None:
    (made / ".gateway-abc").write_text("{")
    own(str(made)).close()
    assert list(made.iterdir()) == []


def test_a_record_that_cannot_be_written_costs_nobody_the_lock(
    made: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: str, text: str, *, durable: bool) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(owning, "replace", full)
    owned = own(str(made))
    assert "No space left" in caplog.text
    assert refused(made).condition == "unnamed"
    owned.close()


# By whatever name, and whatever lies there


def test_a_link_leads_to_the_same_directory(made: Path, tmp_path: Path) -> None:
    """A17"""
    (tmp_path / "link").symlink_to(made)
    owned = own(str(made))
    assert refused(tmp_path / "link").pid == os.getpid()
    owned.close()


@pytest.mark.parametrize("names", [["gateway.lock"], ["gateway.lock", "gateway.json"]])
def test_files_that_somebody_removed_give_nobody_the_directory(
    made: Path, names: list[str]
) -> None:
    owned = own(str(made))
    said = {"pid": os.getpid(), "url": "http://127.0.0.1:1", "v": 1}
    (made / "gateway.json").write_text(json.dumps(said))
    for name in names:
        (made / name).unlink()
    error = refused(made)
    assert error.pid == os.getpid()
    assert error.condition == ("closed" if len(names) == 1 else "unnamed")
    owned.close()


@pytest.mark.parametrize("url", ["http://a b:1", "http://a\0:1", "http://[::1", "http://h:99999"])
def test_a_url_that_is_none_is_no_answer(made: Path, url: str) -> None:
    (made / "gateway.json").write_text(json.dumps({"pid": os.getpid(), "url": url}))
    found = gateway_of(str(made))
    assert found is not None
    assert found.condition is Condition.BLOCKED
    assert found.locks() == {}


HOSTILE = {
    "empty": b"",
    "nuls": b"\0" * 100,
    "deep": b"[" * 100_000,
    "list": b"[1]",
    "big": b"x" * 1_000_000,
    "wrong types": json.dumps({"pid": [1], "url": {}, "stage": 7, "bootId": []}).encode(),
    "negative": b'{"pid": -1, "url": "http://[", "stage": "serving"}',
    "huge": b'{"pid": ' + b"9" * 100 + b"}",
    "escape": json.dumps({"pid": 1, "url": "http://\x1b[2J", "stage": "serving"}).encode(),
    "another's": b'{"pid": 1, "v": 1, "stage": "draining", "url": "http://127.0.0.1:1"}',
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("file", ["gateway.lock", "gateway.json"])
def test_nobody_is_believed_for_what_stands_in_a_file(made: Path, name: str, file: str) -> None:
    path = made / file
    path.write_bytes(HOSTILE[name])
    owned = own(str(made))
    for one in ("gateway.lock", file):
        (made / one).write_bytes(HOSTILE[name])
    error = refused(made)
    assert (error.pid, error.condition) == (os.getpid(), "unnamed")
    assert "\x1b" not in str(error)
    owned.close()
    assert is_free(made)


@pytest.mark.parametrize("plant", ["pipe", "link"])
def test_what_is_no_file_is_replaced(made: Path, plant: str) -> None:
    path = made / "gateway.lock"
    (made / "victim").write_text("{}")
    if plant == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(made / "victim")
    owned = own(str(made))
    assert record(made)["pid"] == os.getpid()
    assert not path.is_symlink()
    assert (made / "victim").read_text() == "{}"
    owned.close()


def test_a_directory_in_the_place_of_the_record_is_left(
    made: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (made / "gateway.lock" / "inside").mkdir(parents=True)
    owned = own(str(made))
    assert "could not be written" in caplog.text
    assert refused(made).pid == os.getpid()
    owned.close()
    assert [path.name for path in made.iterdir()] == ["gateway.lock"]


class Broken(FileOps):
    """Its locks fail."""

    def __init__(self, number: int) -> None:
        self.number = number

    def flock(self, handle: Handle, operation: int) -> None:
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOLCK, errno.ENOSYS, errno.EINVAL])
def test_without_a_lock_that_works_it_does_not_start(made: Path, number: int) -> None:
    with pytest.raises(StoreError, match="local file system") as caught:
        own(str(made), files=Broken(number))
    assert (caught.value.path, caught.value.operation) == (str(made), "lock")
    assert list(made.iterdir()) == []
    assert is_free(made)


def test_a_directory_that_is_none_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "none", tmp_path / "file"):
        with pytest.raises(StoreError):
            own(str(path))


def test_who_only_looks_is_waited_out(made: Path) -> None:
    """Doctor has a shared lock for a moment."""
    looking = os.open(made, os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)

    class Leaves(SystemClock):
        def sleep(self, duration: float) -> None:  # type: ignore[override]
            os.close(looking)

    own(str(made), clock=Leaves()).close()


def test_who_ends_while_it_is_looked_at_is_no_obstacle(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = own(str(made))

    def look(root: str, patience: float) -> None:
        first.close()

    monkeypatch.setattr(owning, "gateway_of", look)
    own(str(made)).close()


# Processes


@pytest.mark.processes
def test_a_killed_one_is_replaced_at_once_though_nobody_has_reaped_it(made: Path) -> None:
    """A8"""
    with owner(made) as process:
        assert refused(made).pid == process.pid
        process.process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert (made / "gateway.lock").exists()
        assert gateway_of(str(made)) is None
        assert is_free(made)


@pytest.mark.processes
def test_a_stopped_one_is_named_with_what_to_do(made: Path) -> None:
    """A8"""
    with owner(made) as process:
        say(process, "serving", "http://127.0.0.1:1")
        process.stop()
        error = refused(made)
        assert (error.pid, error.condition) == (process.pid, "stopped")
        assert (error.state or "")[0] == "T"
        assert f"kill -CONT {process.pid}, or end it: kill -KILL {process.pid}" in str(error)
        process.go_on()
        assert refused(made).condition == "closed"


@pytest.mark.processes
def test_every_stage_is_told_apart(made: Path) -> None:
    with owner(made) as process:
        for stage, words in [("starting", "wait for it"), ("draining", "wait until it is gone")]:
            say(process, stage)
            error = refused(made)
            assert (error.condition, error.pid) == (stage, process.pid)
            assert words in error.hint
        say(process, "serving")
        assert refused(made).condition == "unnamed"


AT_ONCE = """
    import os
    from turnlock.doctor.condition import Stage
    from turnlock.doctor.live import AlreadyServed
    from turnlock.gateway.owning import own
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        owned = own(sys.argv[1])
    except AlreadyServed as error:
        print("AlreadyServed", error.pid, flush=True)
    else:
        owned.say(Stage.SERVING, "http://127.0.0.1:1")
        print("owned", os.getpid(), flush=True)
    sys.stdin.readline()
"""


@pytest.mark.processes
def test_of_many_that_start_at_once_one_serves_and_names_itself(made: Path) -> None:
    with ExitStack() as stack:
        processes = [stack.enter_context(child(AT_ONCE, made)) for _ in range(4)]
        for process in processes:
            process.expect("ready")
        for process in processes:
            process.tell()
        said = [process.line().split() for process in processes]
        (serving,) = [pid for what, pid in said if what == "owned"]
        assert [pid for what, pid in said if what == "AlreadyServed"] == [serving] * 3


@pytest.mark.processes
def test_a_forked_child_neither_keeps_it_nor_gives_it_up(made: Path) -> None:
    """A20, A21"""
    forks = """
    if os.fork() == 0:
        owned.say(Stage.DRAINING)
        owned.close()
        print("owned", flush=True)
        sys.stdin.readline()
        print("over", flush=True)
        os._exit(0)
    os.wait()
    """
    with owner(made, forks) as process:
        assert (refused(made).condition, refused(made).pid) == ("starting", process.pid)
        process.kill()
        assert is_free(made)
        # The child had been there all the time.
        process.tell()
        process.expect("over")


@pytest.mark.processes
def test_a_child_that_the_interpreter_knows_nothing_of_keeps_it_and_is_named(made: Path) -> None:
    """A20"""
    forks = """
    import ctypes
    libc = ctypes.CDLL(None)
    pid = libc.fork()
    if pid == 0:
        libc.pause()
    print("owned", flush=True)
    print(pid, flush=True)
    sys.stdin.readline()
    """
    with owner(made, forks) as process:
        heir = int(process.line())
        try:
            process.kill()
            error = refused(made)
            assert (error.pid, error.condition) == (process.pid, "inherited")
            assert f"end that process: kill {heir}" in error.hint
        finally:
            os.kill(heir, 9)
        eventually(lambda: gateway_of(str(made)) is None)
        assert is_free(made)


@pytest.mark.processes
def test_a_new_image_of_the_process_has_let_go_of_it(made: Path) -> None:
    """A4"""
    again = """
    print("owned", flush=True)
    if len(sys.argv) == 2:
        sys.stdin.readline()
        program = "import sys\\n" + open(sys.argv[1] + "/program").read()
        os.execv(sys.executable, [sys.executable, "-u", "-c", program, sys.argv[1], "again"])
    sys.stdin.readline()
    """
    (made / "program").write_text(textwrap.dedent(OWN + again))
    with owner(made, again) as process:
        process.tell()
        process.expect("owned")
        assert refused(made).pid == process.pid


@pytest.mark.processes
@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs a pid namespace"
)
def test_one_in_another_pid_namespace_is_no_dead_one(made: Path, tmp_path: Path) -> None:
    """A5"""
    program = "import sys\n" + textwrap.dedent(
        """
        from turnlock.doctor.live import AlreadyServed
        from turnlock.gateway.owning import own
        try:
            own(sys.argv[1]).close()
        except AlreadyServed as error:
            print(error.pid, error.condition, error.host, error.hint, sep="|")
        """
    )
    with owner(made) as process:
        say(process, "serving", "http://127.0.0.1:1")
        # Within, that number is nobody's, or somebody else's.
        done = subprocess.run(
            ["unshare", "-pf", "--mount-proc", sys.executable, "-c", program, str(made)],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    pid, condition, host, hint = done.stdout.strip().split("|")
    assert (int(pid), condition, host) == (process.pid, "elsewhere", os.uname().nodename)
    assert "end it where it runs" in hint
    assert "kill" not in hint


def test_where_the_kernel_names_nobody_a_record_of_another_boot_is_elsewhere(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owned = own(str(made))
    monkeypatch.setattr(presence, "flock_holder", lambda status: None)
    foreign = record(made) | {"bootId": "another", "stage": "serving", "url": "http://127.0.0.1:1"}
    (made / "gateway.lock").write_text(json.dumps(foreign))
    found = gateway_of(str(made))
    assert found is not None
    assert found.condition is Condition.ELSEWHERE
    assert not found.answers
    owned.close()


def test_where_the_kernel_names_nobody_the_record_of_a_live_process_counts(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owned = own(str(made))
    monkeypatch.setattr(presence, "flock_holder", lambda status: None)
    assert refused(made).pid == os.getpid()
    # The number was given to another process since.
    recycled = record(made) | {"starttime": 1}
    (made / "gateway.lock").write_text(json.dumps(recycled))
    assert refused(made).condition == "inherited"
    owned.close()


def test_what_is_said_after_the_end_from_another_thread_leaves_nothing(made: Path) -> None:
    owned = own(str(made))
    threads = [threading.Thread(target=owned.say, args=(Stage.DRAINING,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    owned.close()
    for thread in threads:
        thread.join()
    assert list(made.iterdir()) == []
