"""The parts, in the order in which they run, and the module of each: ``sweep`` and ``quick``."""

PARTS = {"kill": "kill", "stop": "stop", "power": "power", "errno": "errnos", "chaos": "chaos"}
