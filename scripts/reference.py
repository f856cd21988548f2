"""Write the reference from the code: api.md and commands.md, and tables in cli.md and http.md.

    python scripts/reference.py           # writes what is out of date
    python scripts/reference.py --check   # only says so, with exit code 1

A test holds the pages to be what this writes (``make reference``).
"""

from __future__ import annotations

import enum
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

import turnlock
from turnlock import backends, events, testing
from turnlock.cli import exits
from turnlock.cli.commands import COMMANDS, cli
from turnlock.doctor.findings import KINDS
from turnlock.gateway.errors import CODES
from turnlock.gateway.operations import OPERATIONS
from turnlock.store import SessionStatus
from turnlock.transcript.jsonl import Line
from turnlock.transcript.tail import Tail, TurnSeen
from turnlock.turns.aio import AsyncTurn
from turnlock.turns.revoking import Settlement
from turnlock.turns.runtime import LeaseRecord, Statistics, Zombie
from turnlock.turns.sync import Turn

REFERENCE = Path(__file__).resolve().parent.parent / "docs" / "reference"
NOTE = "<!-- Written by scripts/reference.py from the code: make reference -->"
_REGION = re.compile(r"(<!-- begin (\S+):[^\n]*-->\n).*?(<!-- end \2 -->)", re.DOTALL)
_COMMON = ("version", "state_dir", "help")


def main() -> int:
    stale = [path for path, text in pages().items() if _current(path) != text]
    for path in stale:
        print(f"{'out of date' if '--check' in sys.argv else 'written'}: {path}")
        if "--check" not in sys.argv:
            path.write_text(pages()[path])
    return int(bool(stale) and "--check" in sys.argv)


def pages() -> dict[Path, str]:
    """Every page that is written here, as it has to be."""
    filled = {path: path.read_text() for path in (REFERENCE / "cli.md", REFERENCE / "http.md")}
    return {
        REFERENCE / "api.md": _text(api_page()),
        REFERENCE / "commands.md": _text(commands_page()),
        **{path: _REGION.sub(_filled, text) for path, text in filled.items()},
    }


def _current(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _text(lines: Iterable[str]) -> str:
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


def _filled(region: re.Match[str]) -> str:
    return f"{region[1]}\n{_text(REGIONS[region[2]]())}\n{region[3]}"


# Regions


def exit_codes() -> Iterator[str]:
    """The table at the head of ``turnlock.cli.exits``."""
    yield "| code | meaning |"
    yield "| --- | --- |"
    table = re.split(r"^=+  =+$", inspect.getdoc(exits) or "", flags=re.MULTILINE)[2]
    for row in re.split(r"\n(?=\S)", table.strip("\n")):
        code, meaning = row.split(maxsplit=1) if row[:3] != "126" else ("126, 127", row[7:])
        yield f"| {code} | {_prose(' '.join(meaning.split()))} |"


def findings() -> Iterator[str]:
    yield "| check | severity | meaning | `--fix` repairs it |"
    yield "| --- | --- | --- | --- |"
    for name, kind in KINDS.items():
        fixed = "yes" if kind.fixable else ""
        yield f"| `{name}` | {kind.severity} | {kind.meaning} | {fixed} |"


def routes() -> Iterator[str]:
    yield "| route | parameters | |"
    yield "| --- | --- | --- |"
    for one in OPERATIONS:
        names = ", ".join(f"`{parameter.name}`" for parameter in (*one.query, *one.headers))
        yield f"| `{one.method} {one.path}` | {names} | {_cell(one.summary)} |"


def codes() -> Iterator[str]:
    yield "| `error.code` | status | |"
    yield "| --- | --- | --- |"
    for name, code in CODES.items():
        yield f"| `{name}` | {code.status} | {_cell(code.meaning)} |"


REGIONS: dict[str, Callable[[], Iterator[str]]] = {
    "exit-codes": exit_codes,
    "findings": findings,
    "routes": routes,
    "codes": codes,
}


# Commands


def commands_page() -> Iterator[str]:
    yield "# Every command and option"
    yield NOTE
    yield ""
    yield "What `--help` says. What the commands have in common is on [command line](cli.md)."
    yield "Every command also takes `--state-dir`, `--version` and `--help`."
    ctx = click.Context(cli, info_name="turnlock")
    for name in sorted(COMMANDS):
        command = cli.get_command(ctx, name)
        assert command is not None
        yield from _command(name, command, ctx)


def _command(name: str, command: click.Command, parent: click.Context) -> Iterator[str]:
    ctx = click.Context(command, info_name=name, parent=parent)
    usage = " ".join((ctx.command_path, *command.collect_usage_pieces(ctx)))
    yield from ("", f"## turnlock {ctx.command_path.split(maxsplit=1)[1]}", "", f"`{usage}`", "")
    yield from _paragraphs(command.help or "")
    options = [
        option
        for option in command.params
        if isinstance(option, click.Option) and option.name not in _COMMON
    ]
    if options:
        yield from ("", "| option | |", "| --- | --- |")
    yield from (_option(option, ctx) for option in options)
    if isinstance(command, click.Group):
        for inner in command.list_commands(ctx):
            found = command.get_command(ctx, inner)
            assert found is not None
            yield from _command(inner, found, ctx)


def _option(option: click.Option, ctx: click.Context) -> str:
    value = "" if option.is_flag else f" {option.make_metavar(ctx)}"
    default = f" Default: {option.default}." if option.show_default else ""
    return f"| `{option.opts[0]}{value}` | {_cell(option.help or '')}{default} |"


# Python


def api_page() -> Iterator[str]:
    yield "# Every public name of Python"
    yield NOTE
    yield ""
    yield "The docstrings, one after the other. The shape of it all is on [Python](python.md)."
    yield from ("", "## turnlock")
    for name in turnlock.__all__:
        found = getattr(turnlock, name)
        if callable(found) and not (isinstance(found, type) and issubclass(found, Exception)):
            yield from _described(name, found)
    for heading, classes in _CLASSES.items():
        yield from ("", f"## {heading}")
        for cls in classes:
            yield from _described(cls.__name__, cls)
    yield from ("", "## Errors", "", "What each says of itself; the tree is in `turnlock.errors`.")
    for name in turnlock.__all__:
        found = getattr(turnlock, name)
        if isinstance(found, type) and issubclass(found, Exception):
            bases = ", ".join(f"`{base.__name__}`" for base in found.__bases__)
            yield from ("", f"### {name}", "", f"A {bases}.", "", *_paragraphs(_doc(found)))
    yield from ("", "## Events", "", "Of `turnlock.events`; `store.subscribe` passes them on.")
    for event in events.Event.__args__:
        yield from _described(event.__name__, event)


_CLASSES: Mapping[str, tuple[type, ...]] = {
    "In a turn": (Turn, AsyncTurn),
    "Records": (
        backends.LockRecord,
        backends.SessionRecord,
        SessionStatus,
        Tail,
        TurnSeen,
        LeaseRecord,
        Line,
        Statistics,
        Zombie,
        Settlement,
    ),
    "For tests": (testing.ManualClock,),
}


def _described(name: str, found: Any) -> Iterator[str]:
    yield from ("", f"### {name}", "")
    if isinstance(found, type) and hasattr(found, "_fields"):
        yield f"Fields: {', '.join(f'`{field}`' for field in found._fields)}."
    elif not _is_made_elsewhere(found):
        yield f"`{name}{_signature(found)}`"
    yield ""
    yield from _paragraphs(_doc(found))
    if isinstance(found, type) and not hasattr(found, "_fields"):
        yield from _members(found)


def _is_made_elsewhere(found: Any) -> bool:
    """A turn and a store come from a function; nobody calls their classes."""
    return found in (Turn, AsyncTurn, turnlock.Store)


def _members(cls: type) -> Iterator[str]:
    seen: set[str] = set()
    own = [one for one in cls.__mro__ if one.__module__.startswith("turnlock")]
    for name in [name for one in own for name in vars(one)]:
        member = inspect.getattr_static(cls, name)
        if name.startswith("_") or name in seen:
            continue
        seen.add(name)
        if isinstance(member, property):
            yield from ("", f"- **`{name}`**", *_indented(_doc(member)))
        elif inspect.isfunction(member):
            prefix = "await " if inspect.iscoroutinefunction(member) else ""
            yield from ("", f"- **`{prefix}{name}{_signature(member)}`**", *_indented(_doc(member)))


def _signature(found: Any) -> str:
    signature = inspect.signature(found)
    shown = [_parameter(one) for one in signature.parameters.values() if one.name != "self"]
    keyword = [one.kind is one.KEYWORD_ONLY for one in signature.parameters.values()]
    variable = any(one.kind is one.VAR_POSITIONAL for one in signature.parameters.values())
    if any(keyword) and not variable:
        shown.insert(len(shown) - sum(keyword), "*")
    returned = signature.return_annotation
    known = returned is not signature.empty and not isinstance(found, type)
    return f"({', '.join(shown)})" + (f" -> {_annotation(returned)}" if known else "")


def _parameter(one: inspect.Parameter) -> str:
    star = "*" if one.kind is one.VAR_POSITIONAL else ""
    note = f": {_annotation(one.annotation)}" if one.annotation is not one.empty else ""
    return f"{star}{one.name}{note}" + ("" if one.default is one.empty else _default(one.default))


def _default(value: object) -> str:
    # The store's limit stands where an enum does.
    return " = …" if isinstance(value, enum.Enum) else f" = {value!r}"


def _annotation(annotation: object) -> str:
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return str(text).replace(" | Default", "").replace(" | Whose", "")


def _doc(found: Any) -> str:
    if isinstance(found, type) and hasattr(found, "_fields") and not _has_own_doc(found):
        return ""
    return inspect.cleandoc(getattr(found, "__doc__", None) or "")


def _has_own_doc(found: type) -> bool:
    # A named tuple without one gets "Name(field, ...)".
    return not (found.__doc__ or "").startswith(f"{found.__name__}(")


# Text


def _paragraphs(text: str) -> Iterator[str]:
    """A docstring as Markdown: one line a paragraph, indented blocks as code."""
    for block in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        lines = block.split("\n")
        if all(line.startswith("    ") for line in lines):
            yield from ("```text", *(line[4:] for line in lines), "```", "")
        else:
            yield from (_prose(" ".join(line.strip() for line in lines)), "")


def _indented(text: str) -> Iterator[str]:
    yield from (("", *(f"  {line}" if line else "" for line in _paragraphs(text))) if text else ())


def _prose(text: str) -> str:
    """Markdown of a docstring's text; what is in code stays as it is."""
    if text == "::":
        return ""
    parts = re.sub(r"::$", ":", text.replace("``", "`")).split("`")
    return "`".join(
        part if number % 2 else part.replace("<", "&lt;") for number, part in enumerate(parts)
    )


def _cell(text: str) -> str:
    return _prose(" ".join(text.split())).replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
