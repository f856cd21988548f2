"""The parts, in the order in which they run, and their modules: each has ``sweep`` and ``quick``."""

PARTS = {"kill": "kill", "stop": "stop", "power": "power", "errno": "errnos"}
