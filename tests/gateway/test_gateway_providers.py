"""A whole turn through the gateway with each provider: configuration, reply, limits, markers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import openai
import pytest

from turnlock.config import PRACTICE, PROVIDERS, load_config
from turnlock.errors import ConfigError
from turnlock.models.opening import BASE_URLS

from ..models.wires import WIRES, Line, Script, pings, reply, scripted, stall
from .serving import ask, facts, failure, run, served

every_provider = pytest.mark.parametrize("provider", sorted(WIRES))
LIMITS = "first_token = 1.5\nidle = 1.5\nturn = 30"


def model_table(provider: str, url: str) -> str:
    return f"""
        [models.it]
        provider = "{provider}"
        base_url = "{url}"
        model = "{WIRES[provider].model}"
        api_key_env = "THE_KEY"
        [agents.main]
        model = "it"
        instructions = "be brief"
    """


async def overloaded(line: Line) -> None:
    await line.begin()
    # Mistral's protocol has no error in mid-stream, so its stream is cut.
    await line.send(line.wire.text("hel"), line.wire.failure or b"")


async def unsafe(line: Line) -> None:
    await line.begin()
    await line.send(line.wire.end("refused"))


# what the endpoint does; status and code of the answer, reason and phase of the marker
FAULTS: list[tuple[Script, int, str, str, str]] = [
    (pings, 504, "model_limit", "model-limit", "model"),
    (stall, 504, "model_limit", "model-limit", "model"),
    (overloaded, 502, "upstream_error", "error", "model"),
    (unsafe, 502, "upstream_error", "error", "model"),
]


@every_provider
def test_turn_is_answered_or_marked_and_the_next_one_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    monkeypatch.setenv("THE_KEY", "sk-the-key")

    async def fail(client: openai.AsyncOpenAI, status: int, code: str) -> None:
        error = await failure(client, "hello")
        assert isinstance(error, openai.APIStatusError)
        assert (error.status_code, error.code) == (status, code)
        if code == "upstream_error":
            assert facts(error)["upstream_status"] in (None, WIRES[provider].failure_status)

    async def test() -> None:
        async with scripted(WIRES[provider], reply) as upstream:
            table = model_table(provider, upstream.url)
            async with (
                served(tmp_path, limits=LIMITS, rest=table) as gateway,
                gateway.client(max_retries=0) as client,
            ):
                assert await ask(client, "one") == "hello"
                assert gateway.said() == [("user", "one"), ("assistant", "hello")]
                assert "sk-the-key" in repr(upstream.requests[0][1])
                assert "be brief" in repr(upstream.requests[0][2])
                for script, status, code, _, _ in FAULTS:
                    upstream.script = script
                    await fail(client, status, code)
                found = [(m["reason"], m["phase"], m["provider"]) for m in gateway.markers()]
                assert found == [(reason, phase, provider) for *_, reason, phase in FAULTS]
                upstream.script = reply
                assert await ask(client, "two", stream=True) == "hello"
                assert gateway.said()[-2:] == [("user", "two"), ("assistant", "hello")]
                await upstream.wait_for(lambda it: it.open == 0)

    run(test())


def test_configuration_and_models_know_the_same_providers() -> None:
    assert set(PROVIDERS) - {PRACTICE} == set(BASE_URLS)


def test_provider_that_nobody_knows_is_refused_with_those_that_are(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text('[models.x]\nprovider = "clippy"\n')
    with pytest.raises(ConfigError, match=r"'clippy' is not known; known are openai, anthropic"):
        load_config(str(path))


@pytest.mark.parametrize(
    ("provider", "package", "extra"),
    [
        ("anthropic", "pydantic_ai", "anthropic"),
        ("anthropic", "anthropic", "anthropic"),
        ("google", "google.genai", "google"),
        ("mistral", "mistralai", "mistral"),
        ("ollama", "ollama", "ollama"),
        ("openai", "openai", "models"),
    ],
)
def test_provider_that_is_not_installed_names_what_to_install(
    tmp_path: Path, provider: str, package: str, extra: str
) -> None:
    """In a process of its own, where the package cannot be imported."""
    path = tmp_path / "t.toml"
    path.write_text(f'[models.x]\nprovider = "{provider}"\n[agents.main]\nmodel = "x"\n')
    command = [sys.executable, "-c", WITHOUT, package, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=50)
    assert "[models.x]: " in done.stdout
    assert f"pip install 'turnlock[{extra}]'" in done.stdout


WITHOUT = """
import asyncio, sys
sys.modules[sys.argv[1]] = None
from turnlock.config import load_config
from turnlock.errors import ConfigError
from turnlock.gateway.agents import open_agents

async def main():
    async with open_agents(load_config(sys.argv[2]), {}, sys.argv[2]):
        print("opened")

try:
    asyncio.run(main())
except ConfigError as error:
    print(error)
"""


def test_opening_one_provider_imports_no_other(tmp_path: Path) -> None:
    program = """
import asyncio, sys
from turnlock.models.opening import open_model
open_model("ollama", None, "m", None)
print({"openai", "anthropic", "pydantic_ai", "mistralai"} & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
