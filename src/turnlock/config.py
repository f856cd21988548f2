"""The configuration file of the gateway: TOML, checked to the last key."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from .errors import ConfigError, LimitsError, shown
from .limits import LIMIT_NAMES, Limits
from .session import is_part

DEFAULT_AGENT = "main"
PRACTICE = "practice"
PROVIDERS = (
    "openai",
    "anthropic",
    "cerebras",
    "deepseek",
    "google",
    "groq",
    "mistral",
    "ollama",
    "openrouter",
    "together",
    "xai",
    PRACTICE,
)


class ModelSettings(NamedTuple):
    """``[models.<name>]``: an endpoint. ``api_key_env`` names the variable that holds its key.

    ``provider`` is one of `PROVIDERS`; ``base_url`` may be None, for the provider's own.
    """

    provider: str
    base_url: str | None
    model: str
    api_key_env: str | None


class AgentSettings(NamedTuple):
    """``[agents.<name>]``: ``model`` is a name of ``[models]``."""

    model: str
    instructions: str


class GatewaySettings(NamedTuple):
    """``[gateway]``. Bodies are bounded by ``max_body_bytes``; waiting turns by ``max_waiting``."""

    host: str = "127.0.0.1"
    port: int = 8642
    max_body_bytes: int = 4 * 1024 * 1024
    max_waiting: int = 1000
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()


class Config(NamedTuple):
    gateway: GatewaySettings
    limits: Limits
    models: Mapping[str, ModelSettings]
    agents: Mapping[str, AgentSettings]


def default_config() -> Config:
    """The configuration without a file: one agent, ``main``, on the practice model."""
    return Config(
        GatewaySettings(),
        Limits(),
        {PRACTICE: ModelSettings(PRACTICE, None, PRACTICE, None)},
        {DEFAULT_AGENT: AgentSettings(PRACTICE, "")},
    )


def load_config(path: str) -> Config:
    """Read a TOML configuration. Raises `ConfigError` that names the table, the key and why."""
    import tomllib

    try:
        with open(path, "rb") as file:
            tables = tomllib.load(file)
    except OSError as error:
        raise ConfigError(path, error.strerror or str(error)) from error
    except (ValueError, RecursionError) as error:
        # A number of thousands of digits is a plain ValueError.
        raise ConfigError(path, f"it is no TOML: {error}") from None
    return parse_config(path, tables)


def parse_config(path: str, tables: Mapping[str, Any]) -> Config:
    reader = _Reader(path)
    reader.only_keys("the file", tables, ("gateway", "limits", "models", "agents"))
    default = default_config()
    limits = _read_limits(reader, reader.table("limits", tables.get("limits", {})))
    models = {
        name: _read_model(reader, name, value)
        for name, value in reader.table("models", tables.get("models", {})).items()
    }
    models = {**default.models, **models}
    agents = {
        name: _read_agent(reader, name, value, models)
        for name, value in reader.table("agents", tables.get("agents", {})).items()
    }
    gateway = _read_gateway(reader, reader.table("gateway", tables.get("gateway", {})))
    return Config(gateway, limits, models, agents or default.agents)


class _Reader:
    """Checks values of a parsed file, and names them in errors."""

    def __init__(self, path: str) -> None:
        self._path = path

    def fail(self, why: str) -> ConfigError:
        return ConfigError(self._path, why)

    def table(self, name: str, value: object) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            raise self.fail(f"[{name}] has to be a table, not {shown(value, 100)}")
        return value

    def only_keys(self, name: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
        for key in table:
            if key not in known:
                raise self.fail(
                    f"{name} has an unknown key {shown(key)}; known are {', '.join(known)}"
                )

    def text(self, name: str, table: Mapping[str, Any], key: str) -> str | None:
        value = table.get(key)
        if value is not None and not isinstance(value, str):
            raise self.fail(f"{key!r} of {name} has to be text, not {shown(value, 100)}")
        return value

    def integer(
        self, name: str, table: Mapping[str, Any], key: str, default: int, least: int, most: int
    ) -> int:
        value = table.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            wanted = f"a number from {least} to {most}"
            raise self.fail(f"{key!r} of {name} has to be {wanted}, not {shown(value, 100)}")
        return value

    def texts(self, name: str, table: Mapping[str, Any], key: str) -> tuple[str, ...]:
        value = table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise self.fail(f"{key!r} of {name} has to be a list of texts, not {shown(value, 100)}")
        return tuple(value)


def _read_limits(reader: _Reader, table: Mapping[str, Any]) -> Limits:
    reader.only_keys("[limits]", table, LIMIT_NAMES)
    try:
        return Limits(**table)
    except LimitsError as error:
        raise reader.fail(f"[limits]: {error}") from None


def _read_model(reader: _Reader, name: str, value: object) -> ModelSettings:
    label = f"[models.{name:.100}]"
    table = reader.table(label[1:-1], value)
    reader.only_keys(label, table, ("provider", "base_url", "model", "api_key_env"))
    provider = reader.text(label, table, "provider") or "openai"
    if provider not in PROVIDERS:
        known = ", ".join(PROVIDERS)
        raise reader.fail(
            f"{label}: provider {shown(provider, 100)} is not known; known are {known};"
            " 'openai' with a base_url is any OpenAI-compatible endpoint"
        )
    base_url = reader.text(label, table, "base_url")
    if base_url is not None and not re.match(r"https?://[^/\s]+", base_url):
        raise reader.fail(f"{label}: base_url {shown(base_url)} is no http or https URL")
    return ModelSettings(
        provider,
        base_url,
        reader.text(label, table, "model") or name,
        reader.text(label, table, "api_key_env"),
    )


def _read_agent(
    reader: _Reader, name: str, value: object, models: Mapping[str, ModelSettings]
) -> AgentSettings:
    label = f"[agents.{name:.100}]"
    if not is_part(name):
        raise reader.fail(f"{label}: {shown(name)} cannot be the agent of a session key")
    table = reader.table(label[1:-1], value)
    reader.only_keys(label, table, ("model", "instructions"))
    model = reader.text(label, table, "model") or PRACTICE
    if model not in models:
        raise reader.fail(f"{label}: there is no [models.{model:.100}]")
    return AgentSettings(model, reader.text(label, table, "instructions") or "")


def _read_gateway(reader: _Reader, table: Mapping[str, Any]) -> GatewaySettings:
    label = "[gateway]"
    reader.only_keys(label, table, GatewaySettings._fields)
    base = GatewaySettings()
    return GatewaySettings(
        reader.text(label, table, "host") or base.host,
        reader.integer(label, table, "port", base.port, 0, 65535),
        reader.integer(label, table, "max_body_bytes", base.max_body_bytes, 1024, 2**30),
        reader.integer(label, table, "max_waiting", base.max_waiting, 1, 10**6),
        reader.texts(label, table, "allowed_hosts"),
        reader.texts(label, table, "allowed_origins"),
    )


def default_state_directory() -> str:
    """``$TURNLOCK_STATE_DIR``, else the platform's data directory for turnlock.

    A leading ``~`` of the variable is expanded: files of settings leave it as it is.
    """
    named = os.environ.get("TURNLOCK_STATE_DIR")
    if named:
        return os.path.expanduser(named)
    import platformdirs

    return platformdirs.user_data_dir("turnlock", appauthor=False)
