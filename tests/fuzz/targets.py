"""Every target by its name."""

from __future__ import annotations

import importlib.util

from . import asking, claims, commands, presences, replies, settings, states, transcripts
from .harness import Target

_DIRECT = ("anthropic", "google", "mistral")


def _targets() -> list[Target]:
    return [
        Target("payload", claims.parse, claims.seeds, claims.words(), 300),
        Target("claim", claims.judge, claims.seeds, claims.words(), 80),
        Target("scribe", claims.write_and_read, claims.writer_seeds, (b"\0", b'"', b"\xff"), 100),
        Target("lines", transcripts.read, transcripts.seeds, transcripts.WORDS, 200),
        Target("entries", transcripts.write_and_read, transcripts.seeds, transcripts.WORDS, 100),
        Target("transcript", transcripts.heal, transcripts.seeds, transcripts.WORDS, 25),
        Target("config", settings.configure, settings.config_seeds, settings.CONFIG_WORDS, 200),
        Target("name", settings.name, settings.name_seeds, settings.NAME_WORDS, 200),
        Target("state", states.look_and_repair, states.seeds, states.WORDS, 40, True),
        Target("presence", presences.look, presences.seeds, presences.WORDS, 80, True),
        Target("http", asking.ask, asking.seeds, asking.WORDS, 150),
        Target("socket", asking.say, asking.raw_seeds, asking.RAW_WORDS, 60),
        Target(
            "openai", replies.answer_to("openai"), replies.openai_seeds, replies.WORDS, 80, True
        ),
        Target("command", commands.call, commands.seeds, commands.WORDS, 80, True),
        *_of_providers(),
    ]


def _of_providers() -> list[Target]:
    """Those of the models whose packages are installed."""
    found = []
    if importlib.util.find_spec("ollama"):
        run = replies.answer_to("ollama")
        found.append(Target("ollama", run, replies.ollama_seeds, replies.WORDS, 40, True))
    if importlib.util.find_spec("pydantic_ai"):
        for provider in _DIRECT:
            run, seeds = replies.answer_to(provider), replies.direct_seeds(provider)
            found.append(Target(provider, run, seeds, replies.WORDS, 25, True))
    return found


TARGETS = {target.name: target for target in _targets()}
