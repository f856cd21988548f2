"""``doctor --unit``: a unit of systemd that ends turns before the gateway can."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from turnlock.doctor.checks.unit import check_unit, parse_service, seconds_of
from turnlock.doctor.examination import Examination

START = "ExecStart=/opt/turnlock/bin/turnlock gateway"


def found(state: Path, text: str | bytes) -> dict[str, str]:
    """The findings for such a ``[Service]``, with their hints."""
    state.mkdir(exist_ok=True)
    unit = state.parent / "turnlock.service"
    unit.write_bytes(text if isinstance(text, bytes) else f"[Service]\n{text}\n".encode())
    examination = Examination(str(state), unit=str(unit))
    return {one.check: one.hint for one in check_unit(examination)}


@pytest.mark.parametrize("mode", ["mixed", "process"])
def test_what_signals_the_gateway_alone_is_sound(state: Path, mode: str) -> None:
    assert found(state, f"KillMode={mode}\nTimeoutStopSec=45") == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "KillMode=",
        "KillMode=control-group",
        "KillMode=mixed\nKillMode=control-group",
        "# KillMode=mixed",
        "[Unit]\nKillMode=mixed",
    ],
)
def test_without_a_mode_every_process_is_signalled(state: Path, text: str) -> None:
    (hint,) = found(state, text).values()
    assert "set KillMode=mixed" in hint


def test_a_mode_that_tells_nobody_is_found(state: Path) -> None:
    assert list(found(state, "KillMode = none")) == ["unit-kill-mode"]


@pytest.mark.parametrize(
    ("text", "enough"),
    [
        ("TimeoutStopSec=30", 43),
        ("TimeoutSec=38", 43),
        (f"{START} --config CONFIG", 133),
        (f"{START} --config CONFIG\nTimeoutStopSec=2min", 133),
        (f"{START} --config=CONFIG", 133),
        (f"{START} '--config=CONFIG' --port 80", 133),
        (f"{START} --config=/no/such.toml --config CONFIG", 133),
        (f"{START} --config /no/such.toml --config=CONFIG", 133),
    ],
)
def test_a_stop_that_ends_before_the_drain_is_found(state: Path, text: str, enough: int) -> None:
    config = state.parent / "turnlock.toml"
    config.write_text("[limits]\ndrain = 120.0\n")
    text = text.replace("CONFIG", str(config))
    hints = found(state, f"KillMode=mixed\n{text}")
    assert list(hints) == ["unit-stop-time"]
    assert f"set TimeoutStopSec={enough}" in hints["unit-stop-time"]


@pytest.mark.parametrize("option", ["--config FILE", "--config=FILE"])
@pytest.mark.parametrize("content", [None, "limits = no"])
def test_a_configuration_that_cannot_be_read_is_said_so(
    state: Path, option: str, content: str | None
) -> None:
    file = state.parent / "turnlock.toml"
    if content is not None:
        file.write_text(content)
    hints = found(state, f"KillMode=mixed\n{START} {option.replace('FILE', str(file))}")
    assert list(hints) == ["unit-config"]
    assert str(file) in hints["unit-config"]


@pytest.mark.parametrize(
    "text", [START, f"{START} --config", 'ExecStart="', "TimeoutStopSec=infinity"]
)
def test_what_cannot_be_known_is_as_without_a_word_about_it(state: Path, text: str) -> None:
    assert found(state, f"KillMode=mixed\n{text}") == {}


@pytest.mark.parametrize("content", [b"", b"KillMode=mixed", b"\xff", b"[Unit]\n"])
def test_what_is_no_unit_is_said_so(state: Path, content: bytes) -> None:
    assert list(found(state, content)) == ["unit-unreadable"]


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: None])
def test_what_is_no_file_is_said_so(state: Path, make: object) -> None:
    state.mkdir()
    path = state.parent / "unit"
    make(path)  # type: ignore[operator]
    (one,) = check_unit(Examination(str(state), unit=str(path)))
    assert one.check == "unit-unreadable"


def test_without_one_there_is_nothing_to_look_at(state: Path) -> None:
    state.mkdir()
    assert list(check_unit(Examination(str(state)))) == []


@pytest.mark.parametrize(
    ("span", "seconds"),
    [
        ("45", 45),
        ("1min 30s", 90),
        ("1m30", 90),
        ("2 hours", 7200),
        ("500ms", 0.5),
        ("1.5 min", 90),
        ("0", math.inf),
        ("infinity", math.inf),
        ("", 90),
        ("soon", 90),
        ("10 fortnights", 90),
        ("-5", 90),
        ("1 " * 1000 + "!", 90),
        ("1" * 1000 + "!", 90),
    ],
)
def test_a_time_is_read_as_systemd_reads_it(span: str, seconds: float) -> None:
    assert seconds_of(span) == seconds


def test_a_line_may_go_on_in_the_next(state: Path) -> None:
    text = "[Service]\nExecStart=/x \\\n  gateway\n[Install]\nKillMode=no\n"
    assert parse_service(text) == {"ExecStart": "/x    gateway"}
