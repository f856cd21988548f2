"""The log of a command: nothing but errors, as what it has to say it says itself."""

from __future__ import annotations

import logging

from .terminal import printable

_logger = logging.getLogger("turnlock")


class _PrintableFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(printable(line) for line in super().format(record).split("\n"))


_handler = logging.StreamHandler()
_handler.setLevel(logging.ERROR)
_handler.setFormatter(_PrintableFormatter("turnlock: %(message)s"))


def log_errors_only() -> None:
    _logger.addHandler(_handler)


def leave_log_to_service() -> None:
    """A service sets up a log of its own."""
    _logger.removeHandler(_handler)
