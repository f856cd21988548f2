"""Limits: one budget tree.

::

    first_token, idle, tool  <=  turn  <  max_hold  <  stale_after

Only values that were written are compared with each other. A default adapts to what was written,
so that writing one limit never makes a configuration contradictory.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping

from .errors import LimitsError

DEFAULT_WAIT = 60.0
DEFAULT_MAX_HOLD = 300.0
# A limit beyond a year is a mistake, such as milliseconds for seconds.
_SECONDS_MAX = 366 * 24 * 3600.0
_INFINITE = math.inf
_FINITE_MAX = sys.float_info.max

LIMIT_NAMES = ("wait", "first_token", "idle", "tool", "turn", "max_hold", "stale_after", "drain")
# (smaller, larger, whether they may be equal)
_ORDER = (
    ("first_token", "turn", True),
    ("idle", "turn", True),
    ("tool", "turn", True),
    ("turn", "max_hold", False),
    ("max_hold", "stale_after", False),
    ("first_token", "max_hold", False),
    ("idle", "max_hold", False),
    ("tool", "max_hold", False),
    ("turn", "stale_after", False),
    ("first_token", "stale_after", False),
    ("idle", "stale_after", False),
    ("tool", "stale_after", False),
)


class Limits:
    """All limits, in seconds.

    ``wait`` (60): how long a message waits for a busy session. ``first_token`` (120), ``idle``
    (60): from a model call to its first content, and between contents. ``tool`` (300): one tool
    call. ``turn`` (600): a whole turn. ``max_hold`` (300, or ``turn`` + 120 if that is more): how
    long a lease may be held. ``stale_after`` (1800): the age from which a foreign lock without
    start time counts as stale. ``drain`` (30): from SIGTERM to the end.

    Raises `LimitsError` for a value out of range and for written values that contradict each other.
    ``written`` names the ones that were given.
    """

    __slots__ = (*LIMIT_NAMES, "written")

    wait: float
    first_token: float
    idle: float
    tool: float
    turn: float
    max_hold: float
    stale_after: float
    drain: float
    written: frozenset[str]

    def __init__(
        self,
        *,
        wait: float | None = None,
        first_token: float | None = None,
        idle: float | None = None,
        tool: float | None = None,
        turn: float | None = None,
        max_hold: float | None = None,
        stale_after: float | None = None,
        drain: float | None = None,
    ) -> None:
        given = {
            "wait": wait,
            "first_token": first_token,
            "idle": idle,
            "tool": tool,
            "turn": turn,
            "max_hold": max_hold,
            "stale_after": stale_after,
            "drain": drain,
        }
        written = {
            name: _written(name, value) for name, value in given.items() if value is not None
        }
        for smaller, larger, may_equal in _ORDER:
            _check_order(written, smaller, larger, may_equal)
        for name, value in _adapted(written).items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "written", frozenset(written))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"limits do not change; make new ones to change {name!r}")

    def __reduce__(self) -> tuple[Callable[..., Limits], tuple[dict[str, float]]]:
        # A process that is spawned is given its limits so; what was written makes the rest again.
        return _made_of, ({name: getattr(self, name) for name in sorted(self.written)},)

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(self, name):g}" for name in LIMIT_NAMES)
        return f"Limits({values})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Limits):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in LIMIT_NAMES)

    def __hash__(self) -> int:
        return hash(tuple(getattr(self, name) for name in LIMIT_NAMES))


def _made_of(written: Mapping[str, float]) -> Limits:
    return Limits(**written)


def check_limit(name: str, value: object, *, optional: bool = False) -> float | None:
    """A limit in seconds, greater than 0; None (no limit) only where ``optional``."""
    if value is None and optional:
        return None
    number = _number(name, value)
    if number <= 0:
        raise LimitsError(name, value, "it has to be more than 0 seconds")
    return number


def check_wait(name: str, value: object) -> float:
    """Seconds that may be 0."""
    number = _number(name, value)
    if number < 0:
        raise LimitsError(name, value, "it cannot be negative")
    return number


def check_age(name: str, value: object) -> float:
    """Seconds that may be 0, or more than a year."""
    number = _finite(name, value)
    if number < 0:
        raise LimitsError(name, value, "it cannot be negative")
    return number


def _number(name: str, value: object) -> float:
    number = _finite(name, value)
    if number > _SECONDS_MAX:
        raise LimitsError(name, value, "it is in seconds, and a year is the most")
    return max(number, -_SECONDS_MAX)


def _finite(name: str, value: object) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not -_INFINITE < value < _INFINITE
    ):
        raise LimitsError(name, value, "it has to be a number of seconds")
    # An integer can be too large for a float.
    return float(min(max(value, -_FINITE_MAX), _FINITE_MAX))


def _written(name: str, value: object) -> float:
    checked = check_wait(name, value) if name in ("wait", "drain") else check_limit(name, value)
    assert checked is not None
    return checked


def _check_order(written: Mapping[str, float], smaller: str, larger: str, may_equal: bool) -> None:
    if smaller not in written or larger not in written:
        return
    low, high = written[smaller], written[larger]
    if low > high or (low == high and not may_equal):
        rule = "at most" if may_equal else "less than"
        raise LimitsError(smaller, low, f"it has to be {rule} {larger!r}, which is {high:g}")


def _adapted(written: Mapping[str, float]) -> dict[str, float]:
    """Every limit: as written, or its default made to fit."""
    below = max((written.get(name, 0.0) for name in ("first_token", "idle", "tool")), default=0.0)
    above = min(written.get("max_hold", _INFINITE), written.get("stale_after", _INFINITE))
    turn = written.get("turn", _between(600.0, below, above))
    max_hold = written.get(
        "max_hold",
        _between(max(DEFAULT_MAX_HOLD, turn + 120.0), turn, written.get("stale_after", _INFINITE)),
    )
    return {
        "wait": written.get("wait", DEFAULT_WAIT),
        "first_token": written.get("first_token", min(120.0, turn)),
        "idle": written.get("idle", min(60.0, turn)),
        "tool": written.get("tool", min(300.0, turn)),
        "turn": turn,
        "max_hold": max_hold,
        "stale_after": written.get("stale_after", max(1800.0, 2 * max_hold)),
        "drain": written.get("drain", 30.0),
    }


def _between(wanted: float, low: float, high: float) -> float:
    """``wanted`` if it lies between, else a value that does."""
    if wanted >= high:
        return low + (high - low) * 0.8
    return max(wanted, low)
