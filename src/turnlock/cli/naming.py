"""What a person may call a session: by its key, its file, or the name that OpenClaw has for it.

In this order, and the first that is there counts:

1. a session key, ``main/alice``;
2. a session key of OpenClaw's, ``agent:main:main``, as ``sessions.json`` has it;
3. the name of a file, ``<id>.jsonl``, ``<id>.jsonl.lock`` or the bare ``<id>``, of any agent;
4. a path of such a file, absolute or relative to here or to the state directory. It may lie outside
   of the state directory unless that was named;
5. the last part of a key of OpenClaw's: ``main`` for ``agent:main:main``.

What fits two sessions is a mistake that lists both; what fits none lists what is near.
"""

from __future__ import annotations

import difflib
import itertools
import os
import shlex
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from ..backends.files import FilesBackend, OneFile, StateDirectory
from ..backends.files.fileops import FileOps
from ..backends.files.layout import LOCK_SUFFIX, TRANSCRIPT_SUFFIX, Layout, Place, list_names
from ..doctor.examination import command_line
from ..doctor.looking import openclaw_directory, require_directory
from ..doctor.openclaw import NamedSession, named_sessions
from ..errors import InvalidSessionKey
from ..session import is_part, parse_key
from .exits import WrongInput

if TYPE_CHECKING:
    from ..store import Store

_ANY_KEY = "any/any"
_NEAR_MAX = 5
# Comparing is slow, and nobody reads a longer list.
_COMPARED_MAX = 5000


class Target(NamedTuple):
    """A session that is there. ``root``: its state directory, None for a file outside of any."""

    layout: Layout
    place: Place
    root: str | None
    openclaw_key: str | None

    @property
    def key(self) -> str:
        """The session key, or the transcript's path where its name can be none."""
        return self.place.label

    @property
    def name(self) -> str:
        """What to type for it."""
        return self.openclaw_key or self.key

    @property
    def store_key(self) -> str:
        """The key to give to `store`."""
        # The layout of one file answers every key with it.
        return self.key if self.key != self.place.transcript else _ANY_KEY

    def store(self, *, revokes_unseen: bool = False) -> Store:
        """A store that has this session, also where its name can be no session key."""
        from ..store import Store

        where = self.root or self.place.directory
        backend = FilesBackend(self.layout, revokes_unseen=revokes_unseen)
        return Store(backend, location=where)

    @property
    def title(self) -> str:
        """As people know it."""
        return f"{self.openclaw_key} ({self.key})" if self.openclaw_key else self.key


class NoSuchSession(WrongInput):
    """Attributes: ``session``, ``path`` of the transcript or directory where it is not."""

    def __init__(self, session: str, path: str, hint: str = "") -> None:
        self.session = session
        self.path = path
        super().__init__(
            f"there is no session {session!r} in {path}"
            if not path.endswith(TRANSCRIPT_SUFFIX)
            else f"there is no session {session!r}: {path} is missing",
            hint=hint or "turnlock sessions lists those that are there",
        )


def resolve(text: str, root: str, *, named: bool) -> Target:
    """The session that the text means. ``named``: whether somebody said which state directory.

    Raises `NoSuchSession`, `WrongInput`, `InvalidSessionKey` for what can be no name at all, and
    `CannotLook` when there is no state directory either.
    """
    if not text or "\0" in text:
        raise InvalidSessionKey(text, "it is empty" if not text else "it has a NUL in it")
    return _Resolver(text, os.path.realpath(root), named).found()


class _Resolver:
    def __init__(self, text: str, root: str, named: bool) -> None:
        self._text = text
        self._root = root
        self._named = named
        self._layout = StateDirectory(root)
        self._files = FileOps()
        self._openclaw = named_sessions(self._files, root)

    def found(self) -> Target:
        for way in (
            self._by_key,
            self._by_openclaw_key,
            self._by_name,
            self._by_path,
            self._by_end,
        ):
            target = way()
            if target is not None:
                return target
        require_directory(self._root)
        raise self._missing()

    # The ways, in their order

    def _by_key(self) -> Target | None:
        for text in (self._text, _without_suffix(self._text)):
            try:
                place = self._layout.place(parse_key(text))
            except InvalidSessionKey:
                continue
            if _is_there(place):
                return self._target(place)
        return None

    def _by_openclaw_key(self) -> Target | None:
        # OpenClaw writes keys in small letters, people do not.
        wanted = self._text.lower()
        exact = [one for one in self._openclaw if one.key == self._text]
        return self._only(exact or [one for one in self._openclaw if one.key.lower() == wanted])

    def _by_name(self) -> Target | None:
        if "/" in self._text:
            return None
        name = _without_suffix(self._text)
        places = [self._place(directory, name) for _, directory in self._directories()]
        there = list(filter(_is_there, places))
        if len(there) > 1:
            raise self._ambiguous(place.label for place in there)
        return self._target(there[0]) if there else None

    def _by_path(self) -> Target | None:
        text = os.path.expanduser(self._text)
        if "/" not in text and text == _without_suffix(text):
            return None
        for path in (os.path.abspath(text), os.path.join(self._root, text)):
            directory, name = os.path.split(_without_suffix(path))
            place = self._place(self._known(os.path.realpath(directory)), name)
            if _is_there(place):
                return self._elsewhere(place)
        return None

    def _by_end(self) -> Target | None:
        end = f":{self._text.lower()}"
        return self._only(
            [one for one in self._openclaw if one.key.lower().endswith(end) and ":" in one.key]
            if "/" not in self._text
            else []
        )

    # What they share

    def _directories(self) -> Iterator[tuple[str | None, str]]:
        return self._layout.directories(self._files)

    def _known(self, real: str) -> str:
        """The name that the state directory has for a directory: it may be a link in there."""
        names = (name for _, name in self._directories() if os.path.realpath(name) == real)
        return next(names, real)

    def _place(self, directory: str, name: str) -> Place:
        return self._layout.place_of_lock(f"{directory}/{name}{LOCK_SUFFIX}")

    def _only(self, found: list[NamedSession]) -> Target | None:
        transcripts = sorted({one.transcript for one in found})
        if len(transcripts) > 1:
            raise self._ambiguous(one.key for one in found)
        if not transcripts:
            return None
        place = self._layout.place_of_lock(f"{transcripts[0]}.lock")
        return self._target(place)._replace(openclaw_key=found[0].key)

    def _target(self, place: Place) -> Target:
        known = (one.key for one in self._openclaw if one.transcript == place.transcript)
        keyed = place.label != place.transcript
        layout = self._layout if keyed else OneFile(place.transcript)
        return Target(layout, place, self._root, next(known, None))

    def _elsewhere(self, place: Place) -> Target:
        """A file that was named by its path, which may be that of another state directory."""
        root = _root_of(place.directory)
        if root == self._root:
            return self._target(place)
        if self._named:
            there = f"--state-dir {shlex.quote(root)}" if root else "leave out --state-dir"
            raise WrongInput(
                f"{place.transcript} is not in the state directory {self._root}", hint=there
            )
        if root is None:
            layout = OneFile(place.transcript)
            return Target(layout, layout.place_of_lock(place.lock), None, None)
        return _Resolver(place.label, root, named=False)._target(place)

    # Mistakes

    def _ambiguous(self, names: Iterable[str]) -> WrongInput:
        return WrongInput(
            f"{self._text!r} can be more than one session",
            hint="say which: " + ", ".join(sorted(names)[:_NEAR_MAX]),
        )

    def _missing(self) -> Exception:
        near = self._near()
        hint = f"near: {', '.join(near)}" if near else self._openclaw_hint()
        try:
            place = self._layout.place(parse_key(self._text))
        except InvalidSessionKey as error:
            if not near and not hint and not self._is_any_name():
                return error
            return NoSuchSession(self._text, self._root, hint)
        return NoSuchSession(self._text, place.transcript, hint)

    def _is_any_name(self) -> bool:
        """Whether it has the look of a name at all: an id, a file, a key of OpenClaw's."""
        name = _without_suffix(os.path.basename(self._text))
        return is_part(name)

    def _near(self) -> list[str]:
        names = dict(itertools.islice(self._names(), _COMPARED_MAX))
        text = _without_suffix(os.path.basename(self._text)).lower()
        inside = [name for name in names if len(text) > 2 and text in name.lower()]
        alike = difflib.get_close_matches(self._text, names, n=_NEAR_MAX, cutoff=0.6)
        return list(dict.fromkeys(names[name] for name in (*inside, *alike)))[:_NEAR_MAX]

    def _names(self) -> Iterator[tuple[str, str]]:
        """(What a session may be called, what to type for it.) Keys of OpenClaw's come first."""
        keys = {one.transcript: one.key for one in self._openclaw}
        yield from ((key, key) for key in keys.values())
        for _, directory in self._directories():
            for base in list_names(self._files, directory):
                if base.endswith((LOCK_SUFFIX, TRANSCRIPT_SUFFIX)):
                    place = self._place(directory, _without_suffix(base))
                    yield place.label, keys.get(place.transcript, place.label)

    def _openclaw_hint(self) -> str:
        own = openclaw_directory()
        if self._named or own is None or os.path.realpath(own) == self._root:
            return ""
        again = command_line(f"release {shlex.quote(self._text)}", os.path.realpath(own))
        return f"in OpenClaw's own directory it would be: {again}"


def _is_there(place: Place) -> bool:
    return os.path.lexists(place.transcript) or os.path.lexists(place.lock)


def _without_suffix(name: str) -> str:
    return name.removesuffix(".lock").removesuffix(TRANSCRIPT_SUFFIX)


def _root_of(directory: str) -> str | None:
    """The state directory that a directory of sessions belongs to."""
    agent, sessions = os.path.split(directory)
    agents = os.path.dirname(agent)
    if sessions != "sessions" or os.path.basename(agents) != "agents":
        return None
    return os.path.dirname(agents)
