"""Sessions for agents of pydantic-ai: ``pip install 'turnlock[pydantic-ai]'``.

::

    from turnlock.integrations.pydantic_ai import TurnlockSession

    agent = Agent("openai:gpt-5", capabilities=[TurnlockSession(store, "main/alice")])
    result = await agent.run("hello")

Two processes that do this on one session run one after the other, each with the history that the
other one left; a run that hangs loses its session by the limits, and one that dies leaves what it
had said, and a marker. See `TurnlockSession`.
"""

try:
    import pydantic_ai  # noqa: F401
except ImportError as missing:
    raise ImportError(
        "pydantic-ai is not installed: pip install 'turnlock[pydantic-ai]'", name="pydantic_ai"
    ) from missing

from .session import TurnlockSession

__all__ = ["TurnlockSession"]
