"""Turn a small trained transformer into a readable program and prove that both agree on a whole domain.

Importing this package loads nothing else: each public name is resolved when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "ExtractError": "extract.errors",
    "Report": "extract.report.report",
    "RunRequest": "extract.pipeline",
    "VERSION": "extract.version",
    "VerifyRequest": "extract.pipeline",
    "run": "extract.pipeline",
    "verify_program": "extract.pipeline",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'extract' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
