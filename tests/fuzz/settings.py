"""What people and programs write by hand: a configuration, and the names of sessions."""

from __future__ import annotations

import functools
import os
import tempfile
from pathlib import Path

from turnlock.backends.files import StateDirectory
from turnlock.config import PROVIDERS, Config, load_config
from turnlock.errors import ConfigError, InvalidSessionKey
from turnlock.limits import LIMIT_NAMES
from turnlock.session import is_part, parse_key, session_key

_YEAR = 366 * 24 * 3600.0

# The configuration


def configure(data: bytes) -> None:
    """A configuration is refused with an error that names the file, or it is one to serve with."""
    path = Path(_directory().name, "turnlock.toml")
    path.write_bytes(data)
    try:
        config = load_config(str(path))
    except ConfigError as error:
        _is_told(error, str(path))
    else:
        _judge(config)


def _is_told(error: Exception, named: str) -> None:
    assert named in str(error)
    assert len(str(error)) < 1000, str(error)[:300]


@functools.cache
def _directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="turnlock-fuzz-")


def _judge(config: Config) -> None:
    gateway = config.gateway
    assert 0 <= gateway.port <= 65535
    assert 1024 <= gateway.max_body_bytes <= 2**30
    assert all(0 <= getattr(config.limits, name) <= 2 * _YEAR for name in LIMIT_NAMES)
    _judge_order(config)
    for model in config.models.values():
        assert model.provider in PROVIDERS
        assert model.base_url is None or model.base_url.startswith(("http://", "https://"))
    assert config.agents
    for name, agent in config.agents.items():
        assert is_part(name)
        assert agent.model in config.models


def _judge_order(config: Config) -> None:
    """Nothing that was written is changed to fit, and what was not fits what was."""
    limits = config.limits
    assert max(limits.first_token, limits.idle, limits.tool) <= limits.turn
    assert limits.turn < limits.max_hold or {"turn", "max_hold"} - limits.written
    assert repr(limits)


def config_seeds() -> list[bytes]:
    whole = """
        [gateway]
        host = "127.0.0.1"
        port = 8642
        max_body_bytes = 4096
        allowed_hosts = ["a.example"]
        [limits]
        wait = 60
        first_token = 20.5
        idle = 10
        turn = 60
        max_hold = 70
        stale_after = 1800
        [models.fast]
        provider = "openai"
        base_url = "http://127.0.0.1:1/v1"
        model = "m"
        api_key_env = "KEY"
        [agents.main]
        model = "fast"
        instructions = "Be brief."
    """
    texts = (
        whole,
        "",
        "[limits]\nwait = 1\n",
        "[limits]\nturn = 0x1\n",
        "[gateway]\nport = 1\n",
        "gateway.host.a = 1",
        "[models]\nx.provider = 'ollama'\n[agents.x]\nmodel = 'x'\n",
    )
    return [text.replace("        ", "").encode() for text in texts]


CONFIG_WORDS = (
    *(f"{name} = ".encode() for name in (*LIMIT_NAMES, "host", "port", "provider", "base_url")),
    *(f"[{name}]\n".encode() for name in ("gateway", "limits", "models.x", "agents.x", "[models]")),
    *(f'"{name}"'.encode() for name in PROVIDERS),
    b"allowed_hosts = ", b"max_waiting = ", b"model = ", b"instructions = ", b"api_key_env = ",
    b"1", b"0", b"-1", b"1e9", b"inf", b"nan", b"true", b"''", b"[]", b"{}", b"{a = 1}", b"'''",
    b"0x" + b"f" * 300, b"0x" + b"f" * 4000, b"9" * 4400, b"1979-05-27T07:32:00Z", b"07:32:00",
    b"0b", b"1e400", b"a." * 1500, b"[" * 1500, b"{a=" * 800, b"\n", b'"', b"\\ud800", b"\xff",
    b"http://", b"http://[", b"https://x", b"\\n", b"# ", b"\x00", b"\xef\xbb\xbf",
)  # fmt: skip


# Names of sessions


def name(data: bytes) -> None:
    """A name is refused with an error of ours, or it is that of a file below its directory."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        key = parse_key(text)
    except InvalidSessionKey as error:
        _is_told(error, "session_key")
    else:
        assert str(key) == text
        _is_below(text)
    _encode(text)


def _is_below(key: str) -> None:
    layout = StateDirectory("/state")
    place = layout.place(parse_key(key))
    agent, _, rest = key.partition("/")
    assert place.transcript == os.path.normpath(place.transcript)
    assert place.transcript == f"/state/agents/{agent}/sessions/{rest}.jsonl"
    assert len(os.fsencode(os.path.basename(place.lock))) <= 255
    assert layout.place_of_lock(place.lock) == place


def _encode(text: str) -> None:
    """Any text is a key; two texts are two keys."""
    key = session_key("main", text)
    assert str(parse_key(key)) == key
    assert session_key("main", text) == key
    for other in (text.lower(), text[:-1], text + "=", text.replace("/", "=2F"), key[5:]):
        same = session_key("main", other) == key
        assert same is (other == text), (other, text, key)
    head, slash, rest = text.partition("/")
    if slash:
        try:
            _is_below(session_key(head, rest))
        except InvalidSessionKey:
            assert not is_part(head)


def name_seeds() -> list[bytes]:
    texts = ("main/alice", "main/a=2F", "x/../../etc/passwd", "", "/", "main/", "a/b/c", "main/-rf")
    more = ("telegram:group:-100", "é@example.org", "a" * 200, "main/" + "b" * 128, "CON")
    return [text.encode() for text in texts + more]


NAME_WORDS = (
    b"/", b"..", b"=", b"=2F", b"=-", b"x=.", b"%2f", b"\\", b"\0", b"\n", b"\x1b[0m", b"\xff",
    "\u202e".encode(), "\u0660".encode(), "é".encode(), b"a" * 128, b"agent:main:", b"@", b"+",
)  # fmt: skip
