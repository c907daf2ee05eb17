"""Attention-only networks end to end: enumerated where that can be, and class by class, with the same counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from extract.pipeline import VerifyRequest, verify_program
from extract.report.report import Report
from tests.networks import attention_only, write_neutral

SPEC = """version = 1
[tokens]
vocab = ["a", "b", "c", "<sep>"]
[domain]
min_length = 1
max_length = 6
template = "{x} <sep>"
where = "count(tokens == 'a') != count(tokens == 'b')"
"""


def verify(folder: Path, program: str, **options: object) -> Report:
    return verify_program(VerifyRequest(checkpoint=folder, program=program, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(4))
def test_both_methods_count_alike(seed: int, tmp_path: Path) -> None:
    write_neutral(attention_only(seed, spread=0.8), tmp_path)
    (tmp_path / "spec.toml").write_text(SPEC)
    text = "output = 'b' if count(tokens == 'a') < count(tokens == 'b') else 'c' if any(tokens == 'c') else 'a'"
    listed = verify(tmp_path, text, method="enumerate", certificate=tmp_path / "listed.json")
    # memory that no table of answers fits into
    classes = verify(tmp_path, text, memory_bytes=500, certificate=tmp_path / "classes.json")
    assert listed.verdict is not None and classes.verdict is not None
    assert (listed.verdict.method, classes.verdict.method) == ("enumeration", "separable")
    for name in ("inputs_total", "agree", "disagree"):
        assert getattr(listed.verdict, name) == getattr(classes.verdict, name)
    assert listed.status == classes.status
    assert listed.certificate is not None and classes.certificate is not None
    assert listed.certificate.checked and classes.certificate.checked
    assert (listed.certificate.kind, classes.certificate.kind) == ("enumeration", "separable")
