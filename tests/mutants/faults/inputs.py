"""Faults of whatever reads what others wrote: claims, transcripts, settings, requests, replies."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

# Claims

FLOCK_UNASKED = Mutant(
    "a held flock counts for nothing",
    Edit("backends/files/judgement.py", "    if evidence.flock_held:\n", "    if False:\n"),
)
LONG_CLAIMS = Mutant(
    "a claim may be longer than anybody reads",
    Edit(
        "backends/files/claim.py",
        "_OWED_BYTES_MAX = 32 * 1024\n",
        "_OWED_BYTES_MAX = 2**30\n",
    ),
)

# Transcripts

LINES_OF_JSON_ALONE = Mutant(
    "only what json calls an error is a damaged line",
    Edit(
        "transcript/jsonl.py",
        "    except (ValueError, RecursionError):\n        return None\n    return value",
        "    except json.JSONDecodeError:\n        return None\n    return value",
    ),
)
LINES_BY_PIECES = Mutant(
    "the first bytes of a line are lost where a piece of the file ends",
    Edit("transcript/jsonl.py", "        if rest:\n", "        if len(rest) > 3:\n"),
)
LINES_BROKEN = Mutant(
    "what only some readers take for the end of a line is written as it is",
    Edit("transcript/jsonl.py", "    if not text.isascii():\n", "    if False:\n"),
)
HEALED_OF_OURS_ALONE = Mutant(
    "a healed copy has only entries of the types that we write",
    Edit(
        "transcript/healing.py",
        'line.entry.get("type") != "session"',
        'line.entry.get("type") in ("message", "custom")',
    ),
)
KEPT_NOTHING = Mutant(
    "doctor says that it keeps a copy of damaged bytes, and keeps none",
    Edit("doctor/fragments.py", "            if lines:\n", "            if False:\n"),
)

# Settings and names

TOML_ALONE = Mutant(
    "only what tomllib calls an error makes a configuration a wrong one",
    Edit(
        "config.py",
        "    except (ValueError, RecursionError) as error:\n",
        "    except tomllib.TOMLDecodeError as error:\n",
    ),
)
KEYS_WITH_SLASHES = Mutant(
    "the name in a session key may have slashes",
    Edit(
        "session.py",
        '_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+=-]{0,127}"',
        '_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+=/-]{0,127}"',
    ),
)

# Over HTTP

URLS_AS_TOLD = Mutant(
    "a url that a file names is taken for one",
    Edit(
        "doctor/connection.py",
        "    except InvalidURL as error:\n",
        "    except EOFError as error:\n",
    ),
)
DEEP_BODIES = Mutant(
    "a body may be nested as deeply as it likes",
    Edit("gateway/body.py", "    except RecursionError:\n", "    except EOFError:\n"),
)
PORTS_AS_TOLD = Mutant(
    "the port in a Host header is taken for a number",
    Edit(
        "gateway/access.py",
        "        valid = not colon or port.isdigit()\n",
        "        valid = not colon or int(port) >= 0\n",
    ),
)
CHUNKS_OF_JSON_ALONE = Mutant(
    "only what json calls an error makes a chunk of a reply a wrong one",
    Edit(
        "models/openai_errors.py",
        "    ValueError,\n    TypeError,\n    LookupError,\n",
        "    json.JSONDecodeError,\n    TypeError,\n    LookupError,\n",
    ),
)
OBJECTS_OF_JSON_ALONE = Mutant(
    "an object of Ollama's with members of other types is no failure of the model",
    Edit("models/ollama.py", "    ValueError,\n    TypeError,\n", ""),
)

# On the command line

DEEP_LINES = Mutant(
    "a line of stdin may be nested as deeply as it likes",
    Edit("cli/input_lines.py", "    except RecursionError:\n", "    except EOFError:\n"),
)
