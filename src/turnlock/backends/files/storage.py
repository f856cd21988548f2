"""Turning the operating system's errors into ours, once."""

from __future__ import annotations

from ...errors import StoreError


class Storage:
    """``with Storage(operation, path)``: an OSError inside becomes a `StoreError`."""

    __slots__ = ("_operation", "_path")

    def __init__(self, operation: str, path: str) -> None:
        self._operation = operation
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise storage_error(self._operation, self._path, error) from error


def storage_error(operation: str, path: str, error: OSError) -> StoreError:
    if isinstance(error, FileNotFoundError):
        return StoreError(path, operation, "its directory is gone")
    return StoreError(path, operation, error.strerror or str(error))
