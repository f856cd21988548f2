"""Faults of the gateway."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

BUSY_IS_UPSTREAM = Mutant(
    "a busy session is reported as a model's failure",
    Edit(
        "gateway/errors.py",
        "                return _busy(error)\n",
        '                return Refusal(502, "upstream_error", str(error))\n',
    ),
)
