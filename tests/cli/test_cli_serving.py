"""The commands that serve: one line with the url on stdout, and an end on demand."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.cli.running import line_of, run, running

pytestmark = pytest.mark.processes


def test_the_gateway_announces_itself_and_drains(state: Path) -> None:
    with running(state, "gateway", "--port", "0") as process:
        url = line_of(process)
        assert url.startswith("http://127.0.0.1:")
        assert (state / "gateway.json").exists()
        assert "gateway-running" in run(state, "doctor").out
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
        assert process.stdout is not None
        assert process.stdout.read() == b""


def test_the_practice_model_announces_itself(state: Path) -> None:
    with running(state, "practice-model") as process:
        with urlopen(f"{line_of(process)}/models", timeout=5) as response:
            assert response.status == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
    assert not state.exists()


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


@pytest.mark.parametrize("command", ["gateway", "practice-model"])
def test_an_address_that_is_taken_is_one_line(state: Path, command: str, taken_port: int) -> None:
    done = run(state, command, "--port", str(taken_port))
    assert (done.code, done.out) == (1, "")
    assert "ddress already in use" in done.err.splitlines()[-1]


@pytest.mark.parametrize("command", ["gateway", "practice-model"])
def test_an_address_that_there_is_not_is_named_with_the_option_to_change_it(
    state: Path, command: str
) -> None:
    done = run(state, command, "--host", "300.1.1.1", "--port", "1")
    assert (done.code, "'300.1.1.1:1'" in done.err) == (1, True)
    assert "another address: --host" in done.err


@pytest.mark.parametrize("command", ["gateway", "practice-model"])
@pytest.mark.parametrize("host", ["a..b", "a" * 64])
def test_so_is_what_is_no_name_of_a_host(state: Path, command: str, host: str) -> None:
    done = run(state, command, "--host", host, "--port", "1")
    assert (done.code, f"'{host}:1'" in done.err) == (1, True)
    assert "another address: --host" in done.err


@pytest.mark.parametrize(("command", "code"), [("gateway", 1), ("practice-model", 2)])
def test_no_host_is_not_every_address(state: Path, command: str, code: int) -> None:
    done = run(state, command, "--host", "")
    assert (done.code, done.out) == (code, "")
    assert "--host" in done.err


def test_a_configuration_that_cannot_be_read_is_exit_2(state: Path) -> None:
    done = run(state, "gateway", "--config", str(state / "none.toml"))
    assert done.code == 2
    assert "No such file" in done.err
