"""``config.json`` read with suspicion: every value has a type and a range, and a mistake is one line with its place.

It refuses to know which keys a format needs; formats ask.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from extract.errors import CheckpointError
from extract.formats.gates import hinting, read_json_object, shown

_OWN = "config.json is the checkpoint's own: take it from where the weights come from"


@dataclass(frozen=True, slots=True)
class Config:
    """The values of a config file by key; without a file every key is absent. ``place`` is the file's name."""

    values: Mapping[str, Any] = field(default_factory=dict)
    place: str = "config.json"

    def integer(self, key: str) -> int | None:
        """Return a whole number, or None when the key is absent or null. Raises: CheckpointError otherwise."""
        value = self.values.get(key)
        if value is not None and type(value) is not int:
            raise self.wrong(key, "a whole number")
        return value

    def number(self, key: str) -> float | None:
        """Return a finite number, or None when the key is absent or null. Raises: CheckpointError otherwise."""
        value = self.values.get(key)
        if value is None:
            return None
        if type(value) not in (int, float) or abs(value) > 1e300 or not math.isfinite(value):
            raise self.wrong(key, "a finite number")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """Return true or false, the default when the key is absent or null. Raises: CheckpointError otherwise."""
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def text(self, key: str) -> str | None:
        """Return a text, or None when the key is absent or null. Raises: CheckpointError otherwise."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, str):
            raise self.wrong(key, "a text")
        return value

    def wrong(self, key: str, expected: str, hint: str | None = None) -> CheckpointError:
        """Return the error for a key whose value is not what was expected."""
        message = f"{key} is {shown(self.values[key])}, expected {expected}"
        return CheckpointError(message, place=self.place, hint=hint or _OWN)

    def require_equal(self, key: str, size: int, source: str) -> None:
        """Check that a size in the config, where present, is the one the tensors have. Raises: CheckpointError."""
        value = self.integer(key)
        if value is not None and value != size:
            raise self.wrong(key, f"{size}, the size of {source}", hint="config.json belongs to another checkpoint")


def read_config(folder: Path) -> Config:
    """Read ``config.json`` of a folder; an absent file is an empty config. Raises: CheckpointError."""
    path = folder / "config.json"
    if not path.is_symlink() and not path.exists():
        return Config()
    with hinting(_OWN):
        return Config(read_json_object(path))
