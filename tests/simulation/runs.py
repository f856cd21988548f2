"""Many schedules, one after another, and one again with its trace."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from .package import Edit, pool_of
from .plan import draw
from .scheduler import ProcessDied
from .world import Result, World

_COLLECT_EVERY = 64


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing logs, and no collection ends an object at a moment of its own choosing."""
    logger = logging.getLogger("turnlock")
    before, hook = logger.disabled, sys.unraisablehook
    logger.disabled = True
    sys.unraisablehook = lambda found: None if _is_of_the_dead(found) else hook(found)
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
        logger.disabled = before
        sys.unraisablehook = hook


def _is_of_the_dead(found: sys.UnraisableHookArgs) -> bool:
    """Generators of killed processes cannot end well: no call of theirs works any more."""
    return isinstance(found.exc_value, ProcessDied | RuntimeError)


def worlds(seeds: Iterable[int], edits: Sequence[Edit] = ()) -> Iterator[tuple[World, Result]]:
    """Run the schedules of these seeds."""
    # Before, so that no collection walks through it.
    pool = pool_of(tuple(edits))
    with _quiet():
        for count, seed in enumerate(seeds, 1):
            world = World(draw(seed), pool)
            yield world, world.run()
            if count % _COLLECT_EVERY == 0:
                gc.collect()


def run(seeds: Iterable[int], edits: Sequence[Edit] = ()) -> Iterator[Result]:
    return (result for _, result in worlds(seeds, edits))


def digests(seeds: Iterable[int]) -> Iterator[tuple[int, str]]:
    """Seeds with the digests of their histories."""
    return ((result.seed, world.digest()) for world, result in worlds(seeds))


class Sum(NamedTuple):
    """What many schedules came to; ``failures`` are seeds with what they violated."""

    schedules: int
    steps: int
    turns: int
    acked: int
    failures: list[tuple[int, list[str]]]


def run_all(seeds: Iterable[int]) -> Sum:
    results = list(run(seeds))
    return Sum(
        len(results),
        sum(one.steps for one in results),
        sum(one.turns for one in results),
        sum(one.acked for one in results),
        [(one.seed, list(map(str, one.violations))) for one in results if one.violations],
    )


def replay(seed: int, edits: Sequence[Edit] = ()) -> tuple[Result, list[str]]:
    """Run one schedule; what happened, step by step."""
    trace: list[str] = []
    pool = pool_of(tuple(edits))
    with _quiet():
        return World(draw(seed), pool, trace=trace).run(), trace
