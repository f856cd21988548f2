"""The token and the configuration: made once, kept to the owner, refused when they cannot serve."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from turnlock import ConfigError, StoreError
from turnlock.gateway.agents import model_keys
from turnlock.gateway.state import load_token, make_directory, present

from .serving import config


@pytest.fixture(autouse=True)
def no_token_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TURNLOCK_TOKEN", raising=False)


def test_a_token_is_made_once_and_kept_to_the_owner(tmp_path: Path) -> None:
    state = tmp_path / "a" / "state"
    umask = os.umask(0)
    try:
        make_directory(str(state))
        token = load_token(str(state))
    finally:
        os.umask(umask)
    assert len(token) >= 32
    assert load_token(str(state)) == token
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert stat.S_IMODE((state / "token").stat().st_mode) == 0o600
    assert [path.name for path in state.iterdir()] == ["token"]


def test_a_token_of_the_environment_is_used_and_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TURNLOCK_TOKEN", "from-outside")
    assert load_token(str(tmp_path)) == "from-outside"
    assert list(tmp_path.iterdir()) == []


def test_a_token_that_others_could_read_is_closed_to_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "token").write_text("known-to-all\n")
    (tmp_path / "token").chmod(0o644)
    assert load_token(str(tmp_path)) == "known-to-all"
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600
    assert "open to other users" in caplog.text


@pytest.mark.parametrize("text", ["", "\n", "two words", "t\u00f6ken"])
def test_a_token_that_no_header_carries_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "token").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError):
        load_token(str(tmp_path))


@pytest.mark.parametrize("plant", ["link", "directory", "pipe"])
def test_a_token_is_a_file(tmp_path: Path, plant: str) -> None:
    path = tmp_path / "token"
    if plant == "link":
        (tmp_path / "victim").write_text("somebody's secret")
        path.symlink_to(tmp_path / "victim")
    elif plant == "directory":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(StoreError):
        load_token(str(tmp_path))


def test_another_gateways_presence_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "gateway.json"
    with present(str(tmp_path), "http://127.0.0.1:1"):
        path.write_text('{"pid": 1}')
    assert path.exists()


def test_a_state_directory_that_cannot_be_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError):
        make_directory(str(tmp_path / "file" / "state"))


def test_a_key_that_is_named_has_to_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    settings = config(
        tmp_path, rest='[models.m]\napi_key_env = "SOME_KEY"\n[agents.main]\nmodel = "m"'
    )
    with pytest.raises(ConfigError, match="SOME_KEY"):
        model_keys(settings, "x.toml")
    monkeypatch.setenv("SOME_KEY", "k")
    assert model_keys(settings, "x.toml") == {"m": "k"}


def test_models_that_no_agent_uses_need_no_key(tmp_path: Path) -> None:
    rest = '[models.unused]\napi_key_env = "NOT_SET_ANYWHERE"\n[agents.main]'
    assert list(model_keys(config(tmp_path, rest=rest), "")) == ["practice"]
