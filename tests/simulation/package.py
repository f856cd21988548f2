"""Copies of the package, each as one process has it: imported on a simulated system.

The source is the real one. What differs is what ``import os`` and its like give it, and that a
`Scheduler.step` stands between any two statements of the modules where threads meet. Each copy has
module globals of its own, as each process has: its queues, its workers, its runtimes.

An `Edit` changes a line before it is compiled: so races are planted.
"""

from __future__ import annotations

import ast
import builtins
import importlib.util
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import turnlock

from .plan import PROCESSES_MAX
from .system import System

if TYPE_CHECKING:
    from .process import Process

_ROOT = Path(turnlock.__file__).parent
# Where threads meet: modules with state that they share. The others are calls, which are points of
# their own, and functions of their arguments. (`fileops` runs in destructors, too.)
_STEPPED = frozenset(
    f"turnlock.{name}"
    for name in (
        *("backends", "backends.memory", "backends.files.backend", "backends.files.beginning"),
        *("backends.files.claims", "backends.files.line", "backends.files.transcripts"),
        *("backends.files.waiting", "backends.files.waker", "turns.aio", "turns.lease"),
        *("turns.queue", "turns.revoking", "turns.runtime", "turns.scope", "turns.sync"),
        *("turns.taking", "turns.turn", "turns.watchdog", "turns.watching", "turns.workers"),
        *("turns.verifying", "turns.writer"),
    )
)
_LOADED = (
    "turnlock.store",
    "turnlock.cleaning",
    "turnlock.backends.files",
    "turnlock.backends.files.waker",
    "turnlock.backends.memory",
    "turnlock.turns.aio",
)


class Edit(NamedTuple):
    """``old`` stands in the module exactly once, whole lines with their indent."""

    module: str
    old: str
    new: str


class Copy:
    """One copy of the package. Used again by the next process, its globals as new."""

    def __init__(self, edits: Sequence[Edit] = ()) -> None:
        self.system = System()
        self._edits = tuple(edits)
        self._modules: dict[str, ModuleType] = {}
        self._builtins = vars(builtins) | {
            "__import__": self._import,
            "open": self.system.open_text,
        }
        for name in _LOADED:
            self.load(name)

    def load(self, name: str) -> Any:
        """A module of this copy, by its full name."""
        found = self._modules.get(name)
        if found is not None:
            return found
        parent, _, base = name.rpartition(".")
        if parent:
            self.load(parent)
        path = _path_of(name)
        module = self._modules[name] = ModuleType(name)
        is_package = path.name == "__init__.py"
        vars(module).update(
            __builtins__=self._builtins,
            __file__=str(path),
            __package__=name if is_package else parent,
            _step=_no_step,
        )
        exec(_code(name, path, self._edits), vars(module))
        if parent:
            setattr(self._modules[parent], base, module)
        return module

    def begin(self, process: Process) -> None:
        """Be the package of a process that starts now."""
        self.system.begin(process)
        for module in self._modules.values():
            vars(module)["_step"] = process.scheduler.step
        self.load("turnlock.turns.queue").queues._reset()
        self.load("turnlock.turns.workers").workers._reset()
        self.load("turnlock.turns.runtime")._runtimes.clear()
        fileops = self.load("turnlock.backends.files.fileops")
        fileops._open_handles.clear()
        fileops._fork_lock = self.system.modules["threading"].Lock()

    def _import(
        self,
        name: str,
        variables: Mapping[str, Any] | None = None,
        local: object = None,
        wanted: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        if level:
            assert variables is not None
            name = importlib.util.resolve_name("." * level + name, variables["__package__"])
        if name.partition(".")[0] == "turnlock":
            module = self.load(name)
            for one in wanted or ():
                if not hasattr(module, one) and _exists(f"{name}.{one}"):
                    self.load(f"{name}.{one}")
            return module if wanted else self.load("turnlock")
        if name in self.system.modules:
            return self.system.modules[name]
        return builtins.__import__(name, variables, None, wanted or (), 0)


class Pool:
    """The copies that the processes of a schedule are, one each, and those of the next again."""

    def __init__(self, edits: Sequence[Edit] = ()) -> None:
        self._copies = [Copy(edits) for _ in range(PROCESSES_MAX + 1)]

    def copy(self, number: int) -> Copy:
        return self._copies[number]


@cache
def pool_of(edits: tuple[Edit, ...]) -> Pool:
    """One for all schedules: to make it takes as long as a hundred of them."""
    return Pool(edits)


def _no_step() -> None:
    """While nothing runs but an import."""


def _path_of(name: str) -> Path:
    path = _ROOT.joinpath(*name.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _exists(name: str) -> bool:
    return _path_of(name).exists()


@cache
def _code(name: str, path: Path, edits: tuple[Edit, ...]) -> CodeType:
    source = path.read_text()
    for edit in edits:
        if edit.module == name:
            assert source.count(edit.old) == 1, f"not once in {name}: {edit.old!r}"
            source = source.replace(edit.old, edit.new)
    tree = ast.parse(source)
    if name in _STEPPED:
        tree = ast.fix_missing_locations(_Stepping().visit(tree))
    return compile(tree, str(path), "exec")


class _Stepping(ast.NodeTransformer):
    """Puts ``_step()`` before every statement of every function."""

    def __init__(self) -> None:
        self._in_function = False

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._function(node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        before, self._in_function = self._in_function, True
        self.generic_visit(node)
        self._in_function = before
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if self._in_function:
            for field in ("body", "orelse", "finalbody"):
                statements = getattr(node, field, None)
                if isinstance(statements, list):
                    setattr(node, field, [new for one in statements for new in _stepped(one)])
        return node


def _stepped(statement: ast.stmt) -> list[ast.stmt]:
    if _is_private(statement):
        return [statement]
    call = ast.Expr(ast.Call(ast.Name("_step", ast.Load()), [], []))
    return [ast.copy_location(call, statement), statement]


def _is_private(statement: ast.stmt) -> bool:
    """Whether it only does what no other thread can see: a point before it would be one too many.

    What stands inside of a ``try`` has its own.
    """
    match statement:
        case ast.Try() | ast.Pass() | ast.Break() | ast.Continue() | ast.Nonlocal() | ast.Global():
            return True
        case ast.Expr(ast.Constant()) | ast.Return(None | ast.Constant() | ast.Name()):
            return True
        case ast.Assign([ast.Name()], ast.Constant() | ast.Name()):
            return True
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            return True
    return False
