"""What plugs into agent frameworks, against the real ones: ``make frameworks``.

A folder for each framework, run in environments of its own (`scripts/frameworks`) at the oldest and
the newest version that is supported. The environment of ``make test`` has none of them.
"""
