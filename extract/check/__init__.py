"""The independent checker: a small program of its own that re-checks certificates.

It shares no code with search and verification, and needs numpy and the standard library only.
"""
