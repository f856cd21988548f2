"""Faults of what speaks to models."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

LINE_STAYS = Mutant(
    "the connection of a call that ended is kept",
    Edit(
        "models/transport.py",
        "        self._open.discard(line)\n        await line.close()\n",
        "        self._open.discard(line)\n",
    ),
    caught_by="tests/models/test_models_providers.py::test_closing_the_generator_closes_the_connection",
)
LINE_OF_CANCELLED_STAYS = Mutant(
    "the connection of a request that was cancelled is kept",
    Edit(
        "models/transport.py",
        "        except BaseException:\n            await self._end(line)\n            raise\n",
        "        except BaseException:\n            raise\n",
    ),
    caught_by="tests/models/test_models_cancel.py::test_cancel_in_the_tls_handshake_lets_go_of_the_connection",
)
SECRETS_BY_VALUE = Mutant(
    "known secrets are not taken out of texts",
    Edit(
        "redaction.py",
        "            text = text.replace(secret, HIDDEN)\n",
        "            pass\n",
    ),
    caught_by="tests/test_values.py::TestRedaction::test_configured_secrets_are_hidden_by_value",
)
SECRETS_BY_PATTERN = Mutant(
    "what looks like a credential is not taken out of texts",
    Edit(
        "redaction.py",
        "        text = re.sub(pattern, HIDDEN, text)\n",
        "        pass\n",
    ),
    caught_by="tests/test_values.py::TestRedaction::test_what_looks_like_a_credential_is_hidden",
)
