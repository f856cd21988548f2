"""How a test declares which mode it is about, and what shows that it bites.

::

    @mode("A2", bites=Bite(DEAD_IS_HELD, shows="SessionBusy"))
    def test_a2_a_killed_holder_is_reclaimed(state: Path) -> None: ...

    waits("A29", needs="inbox", why="a message that comes during a turn has nowhere to be kept")
    does_not_apply("E9", why="…")

The name of the test begins with the id. The test is written for our code as it is, and knows of no
fault; `Bite` names a mutant under which it has to fail, and a pattern that what it says then has
to hold: the effect, and no mere accident of the mutant. A mode may have several tests; each has a
bite, unless another test of the mode has the same claim and bites (``bites=()``).

A test that needs what not everybody has says `needs`; where that is missing it is skipped, and its
mode counts as not run, never as survived.
"""

from __future__ import annotations

import importlib
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest

from tests.mutants import Mutant

from . import namespaces

HERE = Path(__file__).parent
# What Turnlock does not have yet, and some modes need.
CAPABILITIES = frozenset({"inbox", "tools", "failover", "compaction", "database"})
NOT_APPLICABLE_MAX = 15

F = TypeVar("F", bound=Callable[..., Any])


class Mode(NamedTuple):
    id: str
    title: str
    what: str

    @property
    def family(self) -> str:
        return self.id[0]


class Bite(NamedTuple):
    """A mutant, and a regular expression for what the test says when it meets it."""

    mutant: Mutant
    shows: str


class Case(NamedTuple):
    """A test of a mode; ``test`` is its node id."""

    mode: str
    test: str
    bites: tuple[Bite, ...]


class Excuse(NamedTuple):
    """A mode without a test. ``needs`` is a capability, or empty when the mode does not apply."""

    mode: str
    needs: str
    why: str


def bite_id(case: Case, bite: Bite) -> str:
    """How the run of a test against a mutant is named."""
    name = case.test.rpartition("::")[2].removeprefix("test_")
    return f"{name}: {bite.mutant.name}"


_cases: list[Case] = []
_excuses: list[Excuse] = []


def mode(identity: str, *, bites: Bite | Iterable[Bite]) -> Callable[[F], F]:
    """Declare a test of a mode."""
    found = (bites,) if isinstance(bites, Bite) else tuple(bites)

    def declare(test: F) -> F:
        if not test.__name__.startswith(f"test_{identity.lower()}_"):
            raise ValueError(f"{test.__name__} is a test of {identity}: its name begins with that")
        path = "/".join(test.__module__.split("."))
        _cases.append(Case(identity, f"{path}.py::{test.__name__}", found))
        return test

    return declare


def waits(identity: str, *, needs: str, why: str) -> None:
    """Declare that a mode waits for a capability that Turnlock does not have yet."""
    if needs not in CAPABILITIES:
        raise ValueError(f"{identity} needs {needs!r}; capabilities are {sorted(CAPABILITIES)}")
    _excuses.append(Excuse(identity, needs, why))


def does_not_apply(identity: str, *, why: str) -> None:
    """Declare that a mode cannot happen here at all: there is nothing that could be triggered."""
    _excuses.append(Excuse(identity, "", why))


def needs(capability: str) -> pytest.MarkDecorator:
    """``namespaces`` (as root, or as a user who may make user namespaces), ``root`` …"""
    missing = namespaces.missing(capability)
    return pytest.mark.skipif(missing is not None, reason=f"not run here: {missing}")


def modes() -> dict[str, Mode]:
    """Every mode by its id, in the order of families and numbers."""
    return {
        identity: Mode(identity, *entry)
        for family in _catalogue().values()
        for identity, entry in family.items()
        if identity != "title"
    }


def families() -> dict[str, str]:
    """Letter and title."""
    return {letter: family["title"] for letter, family in _catalogue().items()}


def family_files() -> list[Path]:
    return sorted(HERE.glob("test_[a-g]_*.py"))


def declared() -> tuple[list[Case], list[Excuse]]:
    """What the files of all families declare."""
    for path in family_files():
        importlib.import_module(f"{__package__}.{path.stem}")
    return list(_cases), list(_excuses)


def _catalogue() -> dict[str, Any]:
    return tomllib.loads((HERE / "modes.toml").read_text(encoding="utf-8"))
