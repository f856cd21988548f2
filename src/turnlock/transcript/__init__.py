"""The transcript: OpenClaw's version 3 JSONL with our epoch, opening and terminal entries.

``entries`` makes and recognises entries, ``jsonl`` turns them into lines and back, ``tail`` reads
what a new holder has to know from the end of the file, ``history`` makes a model's messages of
them. Nothing in here opens a file.
"""
