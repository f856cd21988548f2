"""How far one database goes: what is measured here, a model on it, and what the model says.

``python -m bench.scale`` measures (``measuring``), checks the model against what was measured at
the same time (``model``), and writes docs/design/scale.md (``page``) with the numbers beside it in
docs/benchmarks/scale.json. ``--quick`` rehearses and writes to ``.bench/quick``; ``--page`` only
writes the page anew, from the numbers that are there.
"""
