"""What other libraries plug in: each in a module named after what it plugs into.

`turnlock.guard` is the one for model clients of any kind; it imports no library. The others import
what they plug into. Nothing in here is imported with turnlock itself.
"""
