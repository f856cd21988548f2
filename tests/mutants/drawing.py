"""Faults that nobody thought of: one small change of the code, at a place that chance picks.

A fault that is planted by hand is one somebody imagined, and has a test because of that. These
tell what the tests see of the others. Some change nothing that anybody could see (a size of a
buffer, a shortcut that is only quicker): a few of a hundred that survive are no alarm, and each is
to be read.

Tools that draw (mutmut, cosmic-ray) change the code of the process that runs the tests, or the tree
itself. Here a fault has to be in every process that a test starts, and two run beside each other:
so what is drawn is planted as the others are.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Iterable, Iterator
from itertools import accumulate, islice

from .catalogue import Planted
from .mutant import PACKAGE, Change, Mutant

DRAWN = "drawn"
# What decides who may write, what is written, and what is found again.
_DRAWN_FROM = ("backends/files/", "backends/memory.py", "cleaning.py", "transcript/", "turns/")
_NEAR = {
    "backends": ("tests/files", "tests/conformance", "tests/turns", "tests/traps"),
    "transcript": ("tests/transcript", "tests/files", "tests/conformance", "tests/doctor"),
    "turns": ("tests/turns", "tests/conformance", "tests/traps", "tests/files"),
}
_FAR = (
    "tests/processes",
    "tests/simulation/test_simulation.py",
    "tests/doctor",
    "tests/cli",
    "tests/integrations",
)
_TEXTS = ("__repr__", "__str__")
_PLAIN = (ast.Name, ast.Attribute, ast.Call)
_Place = tuple[int, int]
_OTHER = {
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Is: "is not",
    ast.IsNot: "is",
    ast.In: "not in",
    ast.NotIn: "in",
}


def drawn(number: int, seed: int, words: Iterable[str] = ()) -> list[Planted]:
    """So many faults, or all there are; with words only in modules whose path has one in it."""
    wanted = list(words) or _DRAWN_FROM
    paths = sorted(str(one.relative_to(PACKAGE)) for one in PACKAGE.rglob("*.py"))
    found = [
        change for path in paths if any(word in path for word in wanted) for change in _of(path)
    ]
    random.Random(seed).shuffle(found)
    return [_planted(change) for change in islice(filter(_is_code, found), number)]


def _is_code(change: Change) -> bool:
    text = (PACKAGE / change.path).read_text(encoding="utf-8")
    try:
        compile(change.apply(text), change.path, "exec")
    except SyntaxError:
        # The places of a tree do not count the brackets around an operand.
        return False
    return True


def _planted(change: Change) -> Planted:
    raw = (PACKAGE / change.path).read_bytes()
    line = raw[: change.start].count(b"\n") + 1
    was = " ".join(raw[change.start : change.stop].decode().split())
    name = f"{change.path}:{line}: {was[:80]!r} -> {change.new.strip()[:80]!r}"
    near = _NEAR.get(change.path.partition("/")[0], _NEAR["turns"])
    return Planted(name, DRAWN, Mutant(name, change), (*near, *_FAR))


def _of(path: str) -> Iterator[Change]:
    raw = (PACKAGE / path).read_bytes()
    lines = [0, *accumulate(len(line) for line in raw.splitlines(keepends=True))]
    for node in _in_functions(ast.parse(raw)):
        for start, stop, new in _changed(node, raw.decode()):
            yield Change(path, lines[start[0] - 1] + start[1], lines[stop[0] - 1] + stop[1], new)


def _in_functions(tree: ast.Module) -> Iterable[ast.AST]:
    functions = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name not in _TEXTS
    )
    # A function within another one is walked through twice.
    found = {id(node): node for one in functions for part in one.body for node in ast.walk(part)}
    return found.values()


def _changed(node: ast.AST, text: str) -> Iterator[tuple[_Place, _Place, str]]:
    """Where to change what, and into what."""
    match node:
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            yield _end(left), _start(right), f" {_OTHER[type(op)]} "
        case ast.BoolOp(op=op, values=[left, right, *_]):
            yield _end(left), _start(right), " or " if isinstance(op, ast.And) else " and "
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as op, right=right):
            yield _end(left), _start(right), " - " if isinstance(op, ast.Add) else " + "
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield _start(node), _end(node), f"({ast.get_source_segment(text, operand)})"
        case ast.Constant(value=bool() as value):
            yield _start(node), _end(node), str(not value)
        case ast.Constant(value=int() as value):
            yield _start(node), _end(node), str(value + 1)
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield _start(value), _end(value), "None"
        case ast.If(test=test) | ast.While(test=test) if isinstance(test, _PLAIN):
            yield _start(test), _end(test), f"not ({ast.get_source_segment(text, test)})"
        case ast.Expr(value=ast.Call() | ast.Await()) if not _is_said(node, text):
            yield _start(node), _end(node), "pass"
        case ast.Raise() | ast.AugAssign() | ast.Assign(targets=[ast.Attribute()]):
            yield _start(node), _end(node), "pass"
        case ast.Break() | ast.Continue():
            yield _start(node), _end(node), "pass"


def _is_said(node: ast.Expr, text: str) -> bool:
    return (ast.get_source_segment(text, node) or "").startswith("logger.")


def _start(node: ast.stmt | ast.expr) -> _Place:
    return node.lineno, node.col_offset


def _end(node: ast.stmt | ast.expr) -> _Place:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return node.end_lineno, node.end_col_offset
