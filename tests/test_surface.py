"""The public surface and the shape of the package."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import turnlock

SOURCE = Path(turnlock.__file__).parent

# Each layer may import those below it, and itself.
LAYERS: tuple[tuple[str, ...], ...] = (
    (
        "errors",
        "clock",
        "session",
        "limits",
        "events",
        "redaction",
        "printable",
        "testing",
        "unblocked",
    ),
    ("config", "transcript"),
    ("backends",),
    ("turns",),
    ("store", "block", "cleaning", "copying", "pruning", "lock"),
    ("models", "practice", "doctor", "integrations"),
    ("gateway", "demo"),
    ("cli",),
)


def layer_of(module: str) -> int:
    return next(number for number, names in enumerate(LAYERS) if module in names)


def imports(path: Path) -> set[str]:
    """The top-level modules of turnlock that a file imports."""
    package = path.relative_to(SOURCE).parts[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            parts = (node.module or "").split(".") if node.module else []
            if node.level:
                base = list(package[: len(package) - node.level + 1])
                full = base + parts or [alias.name for alias in node.names]
                found |= {full[0]} - {"__version__"}
            elif parts[:1] == ["turnlock"] and len(parts) > 1:
                found.add(parts[1])
    return found


@pytest.mark.parametrize(
    "path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE))
)
def test_a_layer_imports_only_those_below_it(path: Path) -> None:
    module = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    if module in ("__init__", "__main__"):
        return
    for name in imports(path):
        assert layer_of(name) <= layer_of(module), f"{module} imports {name}"


def test_no_module_but_the_clock_asks_what_time_it_is() -> None:
    for path in SOURCE.rglob("*.py"):
        if path.name != "clock.py":
            assert "import time\n" not in path.read_text(), path


def test_every_public_name_is_there() -> None:
    for name in turnlock.__all__:
        assert getattr(turnlock, name) is not None
    assert set(dir(turnlock)) >= set(turnlock.__all__)
    with pytest.raises(AttributeError):
        getattr(turnlock, "nothing")  # noqa: B009


def test_every_public_name_has_a_docstring() -> None:
    for name in turnlock.__all__:
        if name != "__version__":
            assert getattr(turnlock, name).__doc__, name


HEAVY = (
    *("asyncio", "click", "ctypes", "dataclasses", "psutil", "platformdirs", "psycopg"),
    *("tomllib", "socket"),
)


def test_the_core_imports_nothing_heavy() -> None:
    program = (
        "import sys, turnlock; turnlock.open_store('state'); turnlock.SessionLock('x');"
        f" print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_every_error_keeps_its_facts_across_processes() -> None:
    import pickle

    errors = [
        turnlock.SessionBusy("main/a", holder_pid=1, holder_turn="T", age=1.0, limit=2.0),
        turnlock.SessionBusy("main/a", holder_pid=1, doubt="other-host"),
        turnlock.LeaseRevoked("main/a", turn_id="T", held=1.0, reason="hold-limit"),
        turnlock.AlreadyHeld("main/a", "T"),
        turnlock.InvalidSessionKey("x", "why"),
        turnlock.LimitsError("wait", -1, "why"),
        turnlock.LockPathError("/x", "why"),
        turnlock.TranscriptError("/x", "why"),
        turnlock.StoreError("/x", "open", "why"),
        turnlock.GuardTimeout("/x", pid=1, state="T (stopped)", waited=1.0),
        turnlock.ModelError(provider="p", model="m", kind="status", detail="d", status=500),
    ]
    for error in errors:
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again)) == (type(error), str(error))
        assert again.__dict__ == error.__dict__


def test_the_version_is_the_same_everywhere() -> None:
    import tomllib

    project = tomllib.loads((SOURCE.parent.parent / "pyproject.toml").read_text())["project"]
    assert project["version"] == turnlock.__version__
    changelog = (SOURCE.parent.parent / "CHANGELOG.md").read_text()
    assert f"## [{turnlock.__version__}]" in changelog


def test_the_core_needs_at_most_three_packages_and_no_framework() -> None:
    import tomllib

    project = tomllib.loads((SOURCE.parent.parent / "pyproject.toml").read_text())["project"]
    assert len(project["dependencies"]) <= 3
    assert project["optional-dependencies"]["all"] == [
        "turnlock[gateway,models,postgres,providers]"
    ]


def test_on_a_system_without_flock_the_import_works_and_the_file_store_says_no() -> None:
    program = (
        "import sys; sys.modules['fcntl'] = None\n"
        "import turnlock\n"
        "turnlock.open_store('memory:')\n"
        "try: turnlock.open_store('state')\n"
        "except turnlock.StoreError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "no flock" in done.stdout, done


def test_what_a_store_cannot_work_with_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    store = turnlock.open_store(tmp_path)
    for after in (-1, 0, float("nan"), "1800"):
        with pytest.raises(turnlock.LimitsError, match="stale_after"):
            store.clean_stale(after)  # type: ignore[arg-type]
    for revoke in (store.revoke, store.supersede):
        with pytest.raises(ValueError, match="reason is 'any"):
            revoke("main/a", reason="any\x1b[31m")
    with pytest.raises(turnlock.StoreError, match="not bytes"):
        turnlock.open_store(os.fsencode(tmp_path))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
