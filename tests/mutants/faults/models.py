"""Faults of the calls to models."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

END_UNNOTICED = Mutant(
    "the end of a model's connection is not noticed",
    Edit(
        "models/openai.py",
        "                return _END  # however it ends: what was complete stays complete\n",
        "                return _END\n            await asyncio.Event().wait()\n",
    ),
)
