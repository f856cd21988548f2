"""The failure suite: ways in which agent sessions failed in the field, made to happen.

A mode (``modes.toml``, A1 to G17) is survived when its test makes the trigger really happen and
shows that the effect does not, *and* the same test fails against a mutant of our own code. See
``declaring`` for how a test says so, and ``docs/failures.md``, which ``make failures`` writes, for
what came of it.
"""
