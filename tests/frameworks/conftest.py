"""Tests of a framework are collected where it is asked for by its folder, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

_HERE = Path(__file__).parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Skipped tests would look as if something was missing: these belong to another command."""
    asked = [config.invocation_params.dir / word.partition("::")[0] for word in config.args]
    inside = [path for path in asked if path.resolve().is_relative_to(_HERE) and path != _HERE]
    return None if inside else True
