"""LangGraph: graphs whose runs are turns, and savers that the fence holds for.

::

    from turnlock.integrations.langgraph import with_turns

    graph = with_turns(builder.compile(checkpointer=saver), turnlock.open_store("state"))
    graph.invoke({"messages": [("user", "hello")]}, {"configurable": {"thread_id": "alice"}})

`with_turns` is all that most need. `TurnlockSaver` keeps checkpoints in the sessions of a store;
`FencedSaver` wraps any other checkpointer. Both also serve a graph that is run within a turn of
your own: ``async with store.turn("main/alice"): await graph.ainvoke(…)``.
"""

try:
    from .fenced import FencedSaver
    from .graphs import with_turns
    from .own import TurnlockSaver
    from .taking import MultitaskStrategy
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("langgraph", "langchain_core"):
        raise
    raise ImportError(
        f"{error.name} is missing: pip install 'turnlock[langgraph]'", name=error.name
    ) from error

__all__ = ["FencedSaver", "MultitaskStrategy", "TurnlockSaver", "with_turns"]
