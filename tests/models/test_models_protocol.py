"""The light half of the package: limits, and a whole reply from a stream."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest

from turnlock.errors import LimitsError
from turnlock.models import Delta, Finished, Message, Model, ModelLimits, complete

from .endpoint import run, user


def test_limits_have_defaults_and_none_is_no_limit() -> None:
    assert ModelLimits() == (10.0, 120.0, 60.0, 600.0)
    assert ModelLimits(first_token=None, idle=None, turn=None)[1:] == (None, None, None)


@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan, "5", True])
@pytest.mark.parametrize("name", ["connect", "first_token", "idle", "turn"])
def test_limit_that_is_no_time_is_refused_by_its_name(name: str, value: Any) -> None:
    with pytest.raises(LimitsError, match=name):
        ModelLimits(**{name: value})
    with pytest.raises(LimitsError, match=name):
        ModelLimits()._replace(**{name: value})


def test_connect_cannot_be_unlimited() -> None:
    with pytest.raises(LimitsError, match="connect"):
        ModelLimits(connect=None)  # type: ignore[arg-type]


class Canned:
    provider = model = api = "canned"

    def __init__(self, *items: Delta | Finished) -> None:
        self.items = items
        self.closed = False

    async def stream(self, messages: Sequence[Message]) -> AsyncGenerator[Delta | Finished, None]:
        try:
            for item in self.items:
                yield item
        finally:
            self.closed = True

    async def aclose(self) -> None:
        pass


def test_complete_joins_the_deltas_and_closes_the_stream() -> None:
    async def test() -> None:
        canned = Canned(Delta("a"), Delta("b"), Finished("stop", None, "m"))
        model: Model = canned
        assert await complete(model, user("x")) == ("ab", Finished("stop", None, "m"))
        assert canned.closed

    run(test())


def test_complete_never_takes_a_stream_without_an_end_for_a_reply() -> None:
    async def test() -> None:
        with pytest.raises(AssertionError):
            await complete(Canned(Delta("a")), user("x"))

    run(test())


def test_import_of_models_loads_no_model_library() -> None:
    code = "import sys, turnlock.models; print({'openai', 'httpx', 'httpx2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
