"""Faults of the calls to models, and of what becomes of their errors."""

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
DUMPED = Mutant(
    "errors are kept as the endpoint sent them",
    Edit(
        "models/failures.py",
        "    is_cut = len(text) > _RAW_MAX\n",
        "    return text\n    is_cut = len(text) > _RAW_MAX\n",
    ),
    Edit("redaction.py", "_TEXT_MAX = 20_000\n", "_TEXT_MAX = 10**9\n"),
    Edit("redaction.py", '    if "<" in text:\n', "    if False:\n"),
    Edit("transcript/entries.py", "_ERROR_BYTES_MAX = 640\n", "_ERROR_BYTES_MAX = 10**9\n"),
)
KEYS_UNKNOWN = Mutant(
    "only what looks like a credential is taken out of an error",
    Edit(
        "redaction.py",
        "    known = [one for one in secrets if len(one) >= _SECRET_LENGTH_MIN]\n",
        "    known: list[str] = []\n",
    ),
)
WHOLE_KEYS_ONLY = Mutant(
    "of a key that was cut the beginning stays",
    Edit("redaction.py", "    if CUT in text:\n", "    if False:\n"),
)
