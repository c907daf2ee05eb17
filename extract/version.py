"""The version of the tool, in one place; it says nothing about the versions of the file formats it writes."""

from __future__ import annotations

VERSION = "0.1.0"
