"""Certificates as files: a claim with its evidence by region, in a JSON form that other code re-checks.

The bytes are a function of the claim alone and carry their own sha256. This room builds the form and judges nothing:
whether what it says is true is for ``extract.check``.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, fields, is_dataclass
from typing import Any, Literal

from extract.domain import Domain
from extract.errors import CertificateError
from extract.lang.syntax import print_program
from extract.network import Architecture, Network
from extract.outcome import BoxRegion, Certificate, Counterexample, Region, Tally
from extract.table_model import TableModel
from extract.version import VERSION
from extract.vocabulary import UNDETERMINED

SCHEMA = "extract.certificate/1"
#: Counterexamples listed, first in canonical order; the counts are exact whatever is listed.
MAX_LISTED = 1000
#: A difference on more than one input in this many is a refutation, never an exception.
EXCEPTIONS_PER = 100

Status = Literal["proved", "proved_except", "refuted", "undecided"]


def status_of(tally: Tally, total: int) -> Status:
    """Return the strongest status that the numbers of a whole domain of ``total`` inputs allow.

    ``proved_except`` needs every input decided and at most one in a hundred different.
    """
    undecided = total - tally.agree - tally.disagree
    if tally.agree == total:
        return "proved"
    if tally.disagree == 0:
        return "undecided"
    return "proved_except" if undecided == 0 and tally.disagree * EXCEPTIONS_PER <= total else "refuted"


def certificate_bytes(
    certificate: Certificate,
    domain: Domain,
    *,
    model: Network | TableModel,
    spec_digest: str,
    counterexamples: Sequence[Counterexample] = (),
    status: Status | None = None,
) -> bytes:
    """Return the certificate file's bytes: indented JSON, sealed with the sha256 of its canonical form.

    ``counterexamples`` are in canonical order and begin with the first ``MAX_LISTED`` of all in the regions; ``status``
    defaults to ``status_of``. Inputs of the domain without a region are counted as undecided.
    Raises:  CertificateError if the domain has no exact size, or too few counterexamples are given.
    """
    if not domain.size_is_exact:
        raise CertificateError("the domain's size is an upper bound, expected an exact count", hint="lower max_length")
    tally, total = certificate.tally, domain.size
    is_by_class, is_real = certificate.method == "separable", certificate.semantics == "real"
    n_differ = sum(region.tally.disagree for region in certificate.regions)
    expected = len(counterexamples) if is_by_class else min(n_differ, MAX_LISTED)
    if len(counterexamples) < expected:
        raise CertificateError(f"{len(counterexamples)} counterexamples given, expected the first {expected}")
    value: dict[str, Any] = {
        "schema": SCHEMA,
        "tool": {"name": "extract", "version": VERSION},
        "checkpoint": {"sha256": model.digest, "facts": _facts(model)},
        "spec": {"sha256": spec_digest, "max_length": domain.max_length, "offsets": list(domain.offsets)},
        "program": print_program(certificate.program),
        "adapter": certificate.program.adapter,
        "claim": {
            "status": status or status_of(tally, total),
            "semantics": certificate.semantics,
            "inputs_total": str(total),
            "agree": str(tally.agree),
            "disagree": str(tally.disagree),
            "undecided": str(total - tally.agree - tally.disagree),
            **_cells(certificate, domain),
        },
        "numerics": {
            "error_bound": certificate.error_bound,
            "min_margin": _finite(certificate.tally.min_margin),
            "n_fragile": sum(region.tally.undecided for region in certificate.regions),
        },
        "exceptions": [_exception(domain, found) for found in counterexamples[:expected]],
        "regions": [_region(region) for region in certificate.regions],
        **({"boxes": [_boxes(domain, region, is_real) for region in certificate.boxes]} if certificate.boxes else {}),
        "assumptions": list(certificate.assumptions),
    }
    return seal(_by_class(value, certificate, domain) if is_by_class else value)


def _by_class(value: dict[str, Any], certificate: Certificate, domain: Domain) -> dict[str, Any]:
    """Return a certificate's value with classes as evidence instead of regions; its margins are proved lower bounds."""
    name, tally = domain.vocabulary.name, certificate.tally
    classes = [
        {
            "length": part.length,
            "offset": part.offset,
            "query": None if part.query is None else domain.vocabulary.names[part.query],
            "answer": [name(cell) for cell in part.answer],
            "agree": str(part.tally.agree),
            "disagree": str(part.tally.disagree),
            "undecided": str(part.tally.undecided),
            "min_margin": _finite(part.tally.min_margin),
        }
        for part in certificate.classes
    ]
    bound = 0.0 if certificate.semantics == "real" else certificate.error_bound
    numerics = {"error_bound": bound, "min_margin": _finite(tally.min_margin), "n_fragile": 0}
    return value | {"method": "separable", "numerics": numerics, "regions": [], "classes": classes}


def seal(value: dict[str, Any]) -> bytes:
    """Return the bytes of a certificate's value with its ``self_sha256``. Raises: ValueError for NaN or Infinity."""
    body = {key: part for key, part in value.items() if key != "self_sha256"}
    sealed = {**body, "self_sha256": self_digest(body)}
    return (json.dumps(sealed, indent=1, ensure_ascii=True, allow_nan=False) + "\n").encode()


def _facts(model: Network | TableModel) -> dict[str, Any]:
    """Return what the weights file does not say but the function depends on: another config.json is another model."""
    if isinstance(model, TableModel):
        return {"format": "table"}
    architecture = model.architecture
    facts: dict[str, Any] = {
        "heads": architecture.n_heads,
        "norm_eps": architecture.norm_eps,
        "activation": architecture.activation if architecture.d_mlp else None,
        "attention_scale": list(architecture.attention_scale),
    }
    usual = {field.name: field.default for field in fields(Architecture)} | {"norm": "layernorm", "attention": "causal"}
    for name in ("norm", "attention", "norm_place", "softmax_share", "masked_token", "embed_scale", "rotary"):
        value = getattr(architecture, name)
        if value != usual[name]:
            facts[name] = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    return facts if model.head is None else facts | {"head_activation": model.head.activation}


def self_digest(value: dict[str, Any]) -> str:
    """Return the sha256 of the canonical JSON (sorted keys, no spaces, ASCII) of everything but ``self_sha256``."""
    body = {key: part for key, part in value.items() if key != "self_sha256"}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _finite(margin: float) -> float | None:
    return margin if math.isfinite(margin) else None


def cell_counts(certificate: Certificate, domain: Domain) -> dict[str, int] | None:
    """Return the sums of the regions' counts of single answers, one per input and position, where all have them.

    Answers of inputs without a region are undetermined.
    """
    counted = [region.cells for region in certificate.regions if region.cells is not None]
    if not counted or len(counted) < len(certificate.regions) or certificate.boxes:
        return None
    total = sum(length * domain.size_at(length) for length in domain.lengths) * len(domain.offsets)
    agree, disagree = sum(c.agree for c in counted), sum(c.disagree for c in counted)
    return {"total": total, "agree": agree, "disagree": disagree, "undetermined": total - agree - disagree}


def _cells(certificate: Certificate, domain: Domain) -> dict[str, Any]:
    counts = cell_counts(certificate, domain)
    return {} if counts is None else {"cells": {name: str(n) for name, n in counts.items()}}


def _region(region: Region) -> dict[str, Any]:
    cells = region.cells
    counts = {} if cells is None else {"cells": asdict(cells) | {"undetermined": list(cells.undetermined)}}
    return {
        "length": region.length,
        "offset": region.offset,
        "start": region.start,
        "stop": region.stop,
        "agree": region.tally.agree,
        "disagree": region.tally.disagree,
        "undecided": region.tally.undecided,
        "min_margin": _finite(region.tally.min_margin),
        "digest": region.digest,
        **counts,
    }


def _boxes(domain: Domain, region: BoxRegion, is_real: bool) -> dict[str, Any]:
    names = domain.vocabulary.names
    return {
        "length": region.length,
        "offset": region.offset,
        "agree": str(region.tally.agree),
        "disagree": str(region.tally.disagree),
        "undecided": str(region.tally.undecided),
        "min_margin": _finite(region.tally.min_margin),
        **({} if is_real else {"error_bound": region.error_bound}),
        "witnesses": [[names[token] for token in tokens] for tokens in region.witnesses],
        "tree": region.tree,
    }


def _exception(domain: Domain, found: Counterexample) -> dict[str, Any]:
    vocabulary, readout = domain.vocabulary, domain.readout
    return {
        "tokens": [vocabulary.names[token] for token in found.tokens],
        "offset": found.offset,
        "model": [None if code == UNDETERMINED else readout.text(code, vocabulary) for code in found.model],
        "program": [readout.text(code, vocabulary) for code in found.program],
    }
