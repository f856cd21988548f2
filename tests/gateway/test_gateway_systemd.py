"""Under systemd: what it is told, and a unit file that fits the gateway's times."""

from __future__ import annotations

import asyncio
import configparser
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from turnlock.cli.exits import ExitCode
from turnlock.doctor.condition import LATEST_END, Stage
from turnlock.gateway.notify import Notifier
from turnlock.limits import Limits

from ..helpers import child
from .serving import PROCESS, config_file, run

PAGE = Path(__file__).parent.parent.parent / "docs/howto/run-as-a-service.md"


@contextmanager
def manager(address: str) -> Iterator[socket.socket]:
    """The socket on which a service manager is told things."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address.replace("@", "\0", 1))
        listener.settimeout(20)
        yield listener


def told(listener: socket.socket) -> dict[str, str]:
    lines = listener.recv(4096).decode().splitlines()
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.processes
def test_systemd_is_told_of_every_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"@turnlock-test-{os.getpid()}"
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with (
        manager(address) as listener,
        child(PROCESS, tmp_path / "state", config_file(tmp_path)) as started,
    ):
        assert "READY" not in told(listener)
        assert started.line().startswith("http")
        assert told(listener)["READY"] == "1"
        started.process.send_signal(signal.SIGHUP)
        reloading = told(listener)
        assert (reloading["RELOADING"], reloading["MONOTONIC_USEC"].isdecimal()) == ("1", True)
        assert told(listener)["READY"] == "1"
        started.process.send_signal(signal.SIGTERM)
        assert told(listener)["STOPPING"] == "1"
        assert started.ended() == 0


def test_the_watchdog_of_systemd_gets_its_signs_of_life_from_the_loop(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")

    async def test(listener: socket.socket) -> None:
        with Notifier({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "30000"}).living():
            for _ in range(3):
                assert await asyncio.to_thread(told, listener) == {"WATCHDOG": "1"}

    with manager(path) as listener:
        run(test(listener))


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "30000", "WATCHDOG_PID": "1"},
    ],
    ids=str,
)
def test_without_a_watchdog_there_are_none(tmp_path: Path, variables: dict[str, str]) -> None:
    async def test() -> None:
        before = len(asyncio.all_tasks())
        with Notifier({"NOTIFY_SOCKET": str(tmp_path / "n"), **variables}).living():
            assert len(asyncio.all_tasks()) == before

    run(test())


def test_a_manager_that_is_gone_is_logged_and_one_that_is_none_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Notifier({}).tell(Stage.SERVING)
    assert caplog.text == ""
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "none")}).tell(Stage.SERVING)
    assert "could not be told 'READY=1" in caplog.text


def unit() -> str:
    return PAGE.read_text().split("```ini\n", 1)[1].split("```", 1)[0]


def test_the_documented_unit_leaves_the_gateway_the_time_to_drain() -> None:
    """G3, G17"""
    read = configparser.ConfigParser(strict=False, interpolation=None)
    read.optionxform = str  # type: ignore[assignment, method-assign]
    read.read_string(unit())
    service = read["Service"]
    assert float(service["TimeoutStopSec"]) > Limits().drain + LATEST_END
    assert service["KillMode"] == "mixed"
    assert service["Type"] == "notify"
    assert service["RestartPreventExitStatus"] == str(int(ExitCode.USAGE))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd")
def test_the_documented_unit_is_one(tmp_path: Path) -> None:
    path = tmp_path / "turnlock.service"
    # Where it will be installed is not here.
    path.write_text(unit().replace("/opt/turnlock/bin/turnlock", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if "turnlock.service" in line]
    assert said == []
