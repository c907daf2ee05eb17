"""Inspection as it is printed: what the formats room found out about a checkpoint, without torch."""

from __future__ import annotations

from dataclasses import asdict

from extract.formats import Inspection
from extract.report.inspection import InspectionReport


def inspection_report(found: Inspection) -> InspectionReport:
    """Return an inspection as it is printed."""
    return InspectionReport(
        schema="extract.inspect/1",
        path=found.path_basename,
        file=found.file.name,
        sha256=found.sha256,
        format=found.format,
        evidence=found.evidence,
        arch=asdict(found.architecture) if found.architecture is not None else None,
        dtype=found.dtype,
        params=found.n_parameters,
        tensors=found.n_tensors,
        spec_must_add=found.spec_must_add,
    )
