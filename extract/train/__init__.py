"""Seeded training of small benchmark checkpoints, so that a newcomer has something real to extract from.

A task record (``tasks.py``) says what to learn; ``training.py`` learns it; ``export.py`` writes a folder that every
other room reads like any checkpoint made elsewhere. This room refuses to know how programs are found or verified:
the reference functions here are never shown to a search. Importing it, or ``tasks``, loads no torch.
"""
