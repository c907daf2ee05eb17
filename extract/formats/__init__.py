"""Checkpoints: bytes in, ``Network`` or ``TableModel`` out, one file per format, hostile files refused with one line.

This room knows file formats and nothing of tasks, activations or programs; it loads no torch.
"""

from extract.formats.checkpoint import Checkpoint, Inspection, inspect_checkpoint, load_checkpoint

__all__ = ["Checkpoint", "Inspection", "inspect_checkpoint", "load_checkpoint"]
