"""The report survives the trip through JSON, is valid against its schema, and cannot hold what JSON cannot."""

from __future__ import annotations

import json
import math

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.report.report import (
    CounterexamplePart,
    DomainPart,
    ErrorPart,
    Exceptions,
    InputPart,
    LengthSize,
    LengthTally,
    Model,
    Numerics,
    ProgramPart,
    ReadOutPart,
    Report,
    ResultError,
    Run,
    SearchPart,
    Task,
    VerdictPart,
    count,
    finite,
    from_json,
    number,
    to_json,
)
from extract.report.schema import result_schema

RUN = Run(started="2020-01-01T00:00:00+00:00", seconds={}, peak_rss_mb=None, host="h", versions={})
EXPECTED_FIELDS = [
    "schema", "status", "model", "task", "programs", "verdict", "numerics", "counterexamples", "certificate",
    "search", "budget_hit", "warnings", "error", "run",
]  # fmt: skip


def full_report(size: int = 1 << 60) -> Report:
    """A report in which every part is present."""
    domain = DomainPart(("0", "1"), 1, 2, (0,), "{x}", None, count(size), True, (LengthSize(1, 2), LengthSize(2, 4)))
    tally = LengthTally(1, 0, 2, 2, 0, 0, 0.5)
    one_input = InputPart(("0",), 0)
    return Report(
        status="proved_except",
        model=Model("m", "ab", "gpt2", ("names",), {"n_layers": 1, "n_heads": 1, "d_model": 4}, "float32", 10),
        task=Task("cd", "t", domain, ReadOutPart("last", "argmax", ("0", "1"), 0.0, None, 0)),
        programs=(ProgramPart("output = '0'", None, None, "ef", 1, None, "proved", Exceptions(1, (one_input,), None)),),
        verdict=VerdictPart("enumeration", count(size), count(size - 1), 1, 0, (tally,), "claim"),
        numerics=Numerics("real", 0.5, 1e-4, 0, ()),
        counterexamples=(CounterexamplePart(("0",), 0, 0, ("1",), ("0",), None, True, True),),
        search=SearchPart("bank", 1, 1, 3, None, {"causal": True}, ()),
        run=RUN,
    )


@given(st.integers())
def test_counts_survive_every_json_reader(n: int) -> None:
    stored = count(n)
    assert number(stored) == n
    if isinstance(stored, int):
        assert int(float(stored)) == n


def test_fields_are_those_of_the_contract_in_its_order() -> None:
    assert list(json.loads(to_json(full_report()))) == EXPECTED_FIELDS
    assert list(json.loads(to_json(Report(status="error", run=RUN)))) == EXPECTED_FIELDS


@given(st.integers(0, 1 << 80))
def test_json_round_trip_and_schema(size: int) -> None:
    report = full_report(size)
    data = to_json(report)
    assert from_json(data) == report
    assert to_json(from_json(data)) == data
    jsonschema.validate(json.loads(data), result_schema())


def test_schema_is_a_schema_and_refuses_what_is_not_a_result() -> None:
    schema = result_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    value = json.loads(to_json(full_report()))
    for field in EXPECTED_FIELDS:
        without = {name: item for name, item in value.items() if name != field}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(without, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(value | {"extra": 1}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(value | {"status": "certified"}, schema)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused(bad: float) -> None:
    report = msgspec.structs.replace(full_report(), numerics=Numerics("real", bad, None, 0, ()))
    with pytest.raises(ValueError, match=r"\$\.numerics\.min_margin"):
        to_json(report)
    assert finite(bad) is None


def test_reading_names_the_wrong_field() -> None:
    value = json.loads(to_json(full_report()))
    value["verdict"]["agree"] = None
    with pytest.raises(ResultError, match=r"verdict\.agree"):
        from_json(json.dumps(value).encode())


def test_error_reports_are_valid() -> None:
    report = Report(status="error", error=ErrorPart("spec", "message", None), run=RUN)
    jsonschema.validate(json.loads(to_json(report)), result_schema())
