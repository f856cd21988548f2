"""A model by the name of its provider: the one place that knows which class speaks to which.

==============  ====================================  =============
provider        spoken to through                     extra
==============  ====================================  =============
``openai``      the openai SDK                        ``models``
``groq`` …      the same, at that provider's address  ``models``
``anthropic``   pydantic-ai and the anthropic SDK     ``anthropic``
``google``      pydantic-ai and the google-genai SDK  ``google``
``mistral``     pydantic-ai and the mistralai SDK     ``mistral``
``ollama``      the ollama client                     ``ollama``
==============  ====================================  =============
"""

from __future__ import annotations

from collections.abc import Mapping

from .protocol import Model

DIRECT = frozenset({"anthropic", "google", "mistral"})
OLLAMA = "ollama"
BASE_URLS: Mapping[str, str] = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
    "google": "https://generativelanguage.googleapis.com",
    "mistral": "https://api.mistral.ai",
    OLLAMA: "http://127.0.0.1:11434",
    "cerebras": "https://api.cerebras.ai/v1",
    "deepseek": "https://api.deepseek.com/v1",
    "groq": "https://api.groq.com/openai/v1",
    "openrouter": "https://openrouter.ai/api/v1",
    "together": "https://api.together.xyz/v1",
    "xai": "https://api.x.ai/v1",
}


def open_model(
    provider: str, base_url: str | None, model: str, api_key: str | None, *, connect: float = 10.0
) -> Model:
    """The model of a provider. Its library is imported now, and only its own.

    A provider that is not in `BASE_URLS` speaks OpenAI's protocol at a ``base_url`` that has to be
    given. Raises `ValueError` for a ``base_url`` or ``api_key`` that cannot be used, and for a
    proxy or certificates of the environment that cannot; `LimitsError` for ``connect``, and
    `ModuleNotFoundError` that names the extra which is not installed.
    """
    base_url = base_url or BASE_URLS.get(provider)
    if base_url is None:
        raise ValueError(f"the provider {provider!r} needs a base_url")
    if provider in DIRECT:
        try:
            from .direct import DirectModel
        except ModuleNotFoundError as missing:
            raise ModuleNotFoundError(
                f"the provider {provider!r} is not installed: pip install 'turnlock[{provider}]'",
                name=missing.name,
            ) from missing
        return DirectModel(base_url, model, api_key, provider=provider, connect=connect)
    if provider == OLLAMA:
        from .ollama import OllamaModel

        return OllamaModel(base_url, model, api_key, connect=connect)
    from .openai import OpenAIModel

    return OpenAIModel(base_url, model, api_key, provider=provider, connect=connect)
