"""openai-agents: a run of an agent as a turn on a session.

::

    from turnlock.integrations.openai_agents import run

    result = await run(agent, "hello", store=store, session="main/alice")

which is, in its parts, for what `run` has no option for::

    async with store.turn("main/alice") as turn:
        session = TurnSession(turn)
        result = await Runner.run(agent, "hello", session=session, hooks=TurnHooks(session))
"""

try:
    import agents  # noqa: F401  # asked for here, where what to do can be said
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        "turnlock.integrations.openai_agents needs the openai-agents package:"
        " pip install 'turnlock[openai-agents]'",
        name=missing.name,
    ) from missing

from .hooks import TurnHooks
from .running import Options, run, run_streamed, run_sync
from .session import TurnSession

__all__ = ["Options", "TurnHooks", "TurnSession", "run", "run_streamed", "run_sync"]
