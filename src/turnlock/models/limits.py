"""How long a model may take over what."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple, Self

from ..errors import LimitsError


class _Fields(NamedTuple):
    connect: float
    first_token: float | None
    idle: float | None
    turn: float | None


class ModelLimits(_Fields):
    """Limits of one model's calls, in seconds; None is no limit.

    ``connect``: until there is a connection. ``first_token``: from the call to the first content.
    ``idle``: from content to content. Thinking counts as content, a mere sign of life does not.
    ``turn``: the whole turn. Only ``connect`` is the model's own business; the others are enforced
    around it, by the turn. Raises `LimitsError` for a value that is not finite and above zero.
    """

    __slots__ = ()

    def __new__(
        cls,
        connect: float = 10.0,
        first_token: float | None = 120.0,
        idle: float | None = 60.0,
        turn: float | None = 600.0,
    ) -> Self:
        check_seconds("connect", connect)
        for name, value in (("first_token", first_token), ("idle", idle), ("turn", turn)):
            if value is not None:
                check_seconds(name, value)
        return super().__new__(cls, connect, first_token, idle, turn)

    @classmethod
    def _make(cls, iterable: Iterable[Any]) -> Self:  # type: ignore[override]
        # _replace() comes here and would pass the checks by.
        return cls(*iterable)


def check_seconds(name: str, value: object) -> None:
    """Raise `LimitsError` unless the value is a finite number of seconds above zero."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise LimitsError(name, value, "a limit is a number of seconds")
    if not math.isfinite(value) or value <= 0:
        raise LimitsError(name, value, "a limit is finite and above zero")
