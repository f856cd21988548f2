"""Every fault that is planted, with the tests that have to catch it.

A fault says so itself (``caught_by``), or a test of the failure suite, or of the fuzzing, names it
as what it bites. The sweeps have faults of their own, which take too long to find for a test.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple

from tests.failures.declaring import declared
from tests.fuzz.bites import BITES as FUZZED
from tests.fuzz.bites import tests_of
from tests.sweeps.bites import BITES as SWEPT

from . import faults
from .mutant import ROOT, Mutant


class Planted(NamedTuple):
    """``key`` is the fault's name in the code; ``part``: the module of `faults` that has it."""

    key: str
    part: str
    mutant: Mutant
    tests: tuple[str, ...]


def planted() -> list[Planted]:
    """All faults that a test catches, by part, each once: a module may use another's fault."""
    biting = _biting()
    found: dict[int, Planted] = {}
    for key, part, mutant in _defined():
        tests = (*mutant.caught_by, *biting.get(id(mutant), ()))
        found.setdefault(id(mutant), Planted(key, part, mutant, tuple(dict.fromkeys(tests))))
    swept = {id(bite.mutant) for bite in SWEPT}
    return [one for one in found.values() if one.tests or id(one.mutant) not in swept]


def chosen(words: Iterable[str]) -> list[Planted]:
    """The faults whose part is one of the words, or whose name has one in it; all without any."""
    wanted = [word.lower() for word in words]
    return [
        one
        for one in planted()
        if not wanted or any(word == one.part or word in one.key.lower() for word in wanted)
    ]


def is_a_test(test: str) -> bool:
    """Whether there is a test with this node id, whatever its parameters are."""
    path, _, name = test.partition("::")
    return re.sub(r"\[.*", "", name) in _tests_in(path)


def _defined() -> Iterator[tuple[str, str, Mutant]]:
    for module in pkgutil.iter_modules(faults.__path__):
        names = vars(importlib.import_module(f"{faults.__name__}.{module.name}"))
        for key, value in names.items():
            if isinstance(value, Mutant):
                yield key, module.name, value


def _biting() -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for case in declared()[0]:
        for bite in case.bites:
            found.setdefault(id(bite.mutant), []).append(case.test)
    for target, mutant in FUZZED:
        found.setdefault(id(mutant), []).extend(tests_of(target))
    return found


@cache
def _tests_in(path: str) -> frozenset[str]:
    file = ROOT / path
    if not file.is_file():
        return frozenset()
    body = ast.parse(file.read_text(encoding="utf-8")).body
    return frozenset(
        f"{prefix}{node.name}"
        for prefix, nodes in [("", body), *_classes(body)]
        for node in nodes
        if isinstance(node, ast.FunctionDef)
    )


def _classes(body: list[ast.stmt]) -> Iterator[tuple[str, list[ast.stmt]]]:
    return ((f"{node.name}::", node.body) for node in body if isinstance(node, ast.ClassDef))
