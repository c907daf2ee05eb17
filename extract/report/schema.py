"""The JSON Schema of the result, derived from the report's own types so that the two cannot drift apart."""

from __future__ import annotations

from typing import Any

import msgspec

from extract.report.report import SCHEMA, Report


def result_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of ``extract.result/1``; every field is required, unknown is null."""
    schema = msgspec.json.schema(Report)
    for definition in schema["$defs"].values():
        properties = definition.get("properties")
        if properties is not None:
            definition["required"] = list(properties)
            for field in properties.values():
                field.pop("default", None)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": SCHEMA, **schema}
