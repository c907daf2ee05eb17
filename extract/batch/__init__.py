"""Many checkpoints at once: a suite of rows, workers that do them, a ledger that loses nothing, a score.

This room runs the pipeline on each row in a process of its own and keeps what came out; it decides nothing about
programs. A killed run goes on where it was and ends with the same bytes as one that was left alone.
"""
