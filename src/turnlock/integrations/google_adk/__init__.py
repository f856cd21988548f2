"""Sessions of google-adk in a Turnlock store: ``turnlock[google-adk]``.

::

    from turnlock.integrations.google_adk import TurnlockSessionService

    service = TurnlockSessionService(turnlock.open_store("state"))
    runner = Runner(app_name="weather", agent=agent, session_service=service)

Each run of such a runner is one turn: `service` says what that promises, `running` how a run gets
its turn, `watching` which limits its model calls have, `events` what an event is in a transcript.
"""

try:
    import google.adk  # noqa: F401  # asked for here, so that what is missing is said in one place
except ImportError as error:
    raise ImportError(
        f"{error.name} is missing: pip install 'turnlock[google-adk]'", name=error.name
    ) from error

from .service import StaleSessionError, TurnlockSessionService

__all__ = ["StaleSessionError", "TurnlockSessionService"]
