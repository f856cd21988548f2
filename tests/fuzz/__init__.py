"""Anything at all for whatever of Turnlock reads what it did not write.

``targets`` has every one by its name: a function of bytes that raises when a promise is broken,
seeds made by code and by our own writers, and words to make more of. Two ways to feed them:
hypothesis in ``make test`` (cheap, the same every time), and atheris in ``make fuzz``, which looks
at what the bytes reach in the code.
"""
