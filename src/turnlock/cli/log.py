"""The log of a command: nothing but errors, as what it has to say it says itself."""

from __future__ import annotations

import logging

from ..printable import PrintableFormatter

_logger = logging.getLogger("turnlock")


class _ErrorsOnly(logging.StreamHandler):  # type: ignore[type-arg]
    pass


def log_errors_only() -> None:
    handler = _ErrorsOnly()
    handler.setLevel(logging.ERROR)
    handler.setFormatter(PrintableFormatter("turnlock: %(message)s"))
    _logger.addHandler(handler)


def leave_log_alone() -> None:
    """A service sets up a log of its own."""
    for handler in [one for one in _logger.handlers if isinstance(one, _ErrorsOnly)]:
        _logger.removeHandler(handler)
