"""What other libraries plug in: each in a module named after what it plugs into.

`turnlock.guard` is the one for model clients of any kind. Nothing in here is imported with turnlock
itself, and no module of it imports the library that it plugs into before it is used.
"""
