"""The failure suite, as far as it applies, with a database in place of the state directory.

Its tests are those of tests/failures, each with its parameters: what they open as ``state``, and
where their gateways have the sessions, is a database. Too long for every ``make test``; ``make
failures`` runs them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import cast

import pytest

from tests.gateway.serving import STORE_URL
from tests.postgres.applying import SAME
from tests.postgres.fixtures import TestDatabase

pytestmark = [
    pytest.mark.failures,
    pytest.mark.postgres,
    pytest.mark.processes,
    pytest.mark.timeout(120),
]


@pytest.fixture
def state(postgres: TestDatabase) -> str:
    """In place of the directory that a test makes its stores of."""
    return postgres.url


@pytest.fixture(autouse=True)
def on_a_database(postgres: TestDatabase) -> Iterator[None]:
    """Where the gateways of a test have their sessions."""
    before = STORE_URL.set(postgres.url)
    yield
    STORE_URL.reset(before)


def found(module: str, name: str) -> Callable[..., None]:
    test = getattr(importlib.import_module(f"tests.failures.test_{module}"), name)
    assert callable(test)
    return cast("Callable[..., None]", test)


globals().update({name: found(module, name) for module, name in SAME})
