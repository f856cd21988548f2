"""What a store's location names, and the backend that it is opened with.

A backend is imported when a location asks for it: not every system has flock, nor every
installation a driver for PostgreSQL.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ..errors import StoreError
from . import Backend

if TYPE_CHECKING:
    from .postgres import PostgresBackend

MEMORY = "memory:"
POSTGRES = ("postgresql://", "postgres://")


def open_backend(location: str, *, durability: str = "fsync") -> tuple[Backend[Any], str]:
    """The backend, and the location as it may be shown: without a password.

    Raises `StoreError` for a location that can be none.
    """
    if location == MEMORY:
        from .memory import MemoryBackend

        return MemoryBackend(pid=os.getpid()), location
    if location.startswith(POSTGRES):
        postgres = open_postgres(location, durability=durability)
        return postgres, postgres.location
    if "://" in location:
        hint = "name a state directory, postgresql://… or memory:"
        raise StoreError(location, "open", "no backend for this kind of URL is installed", hint)
    return open_files(location, durability=durability), location


def open_postgres(url: str, *, durability: str = "fsync") -> PostgresBackend:
    """The PostgreSQL backend. Connects to nothing yet."""
    try:
        from .postgres import PostgresBackend
    except ImportError as error:
        # What of the URL is no secret only the missing package could tell.
        raise StoreError(
            "postgresql://…", "open", f"{error.name} is missing", "pip install 'turnlock[postgres]'"
        ) from error
    return PostgresBackend(url, durability=durability)


def open_files(location: str, *, one_file: bool = False, durability: str = "fsync") -> Backend[Any]:
    """The files backend on a state directory, or on a single transcript."""
    if "\0" in location:
        raise StoreError(location, "open", "a path cannot have a NUL in it")
    try:
        from .files import FilesBackend, OneFile, StateDirectory
    except ImportError as error:
        raise StoreError(
            location, "open", "this system has no flock, so no file store", "use Linux or macOS"
        ) from error
    if one_file:
        return FilesBackend(OneFile(location), durability=durability)
    if os.path.exists(location) and not os.path.isdir(location):
        hint = "a store is a directory: name that, or one that is yet to be made"
        raise StoreError(location, "open", "it is not a directory", hint)
    return FilesBackend(StateDirectory(location), durability=durability)
