"""``python -m turnlock``."""

from .cli import main

main()
