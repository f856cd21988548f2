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
)
LINE_OF_CANCELLED_STAYS = Mutant(
    "the connection of a request that was cancelled is kept",
    Edit(
        "models/transport.py",
        "        except BaseException:\n            await self._end(line)\n            raise\n",
        "        except BaseException:\n            raise\n",
    ),
)
SECRETS_BY_VALUE = Mutant(
    "known secrets are not taken out of texts",
    Edit(
        "redaction.py",
        "            text = text.replace(secret, HIDDEN)\n",
        "            pass\n",
    ),
)
SECRETS_BY_PATTERN = Mutant(
    "what looks like a credential is not taken out of texts",
    Edit(
        "redaction.py",
        "        text = re.sub(pattern, HIDDEN, text)\n",
        "        pass\n",
    ),
)
