"""The parts, in the order in which they run: each is a module with ``sweep`` and ``quick``."""

PARTS = ("kill", "stop")
