"""Laws: the emitted Python file answers as the interpreter does, imports nothing, and its self-test passes."""

from __future__ import annotations

import ast
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extract.lang.emit import expected_answer, to_python
from extract.lang.terms import Program
from extract.readout import ReadOut
from extract.vocabulary import Vocabulary
from tests.laws.terms import NUMBERS, SYMBOLS, well_sorted_terms

READOUTS = {
    "value": ReadOut("last", "argmax", (0, 1, 2)),
    "every": ReadOut("every", "argmax", (0, 1, 2)),
    "multilabel": ReadOut("last", "multilabel", (0, 1, 2)),
    "generate": ReadOut("generate", "argmax", (0, 1, 2), max_new=4),
    "step": ReadOut("generate", "argmax", (0, 1, 2), stop=0, max_new=3),
}


def drawn_program(data: st.DataObject, adapter: str, vocabulary: Vocabulary) -> Program:
    def draw(kind: str, shape: str) -> Any:
        return data.draw(well_sorted_terms(kind, shape, vocabulary))

    if adapter == "multilabel":
        labels = data.draw(st.lists(st.sampled_from(vocabulary.names[:3]), unique=True))
        return Program("multilabel", tuple((label, draw("B", "whole")) for label in labels))
    if adapter == "generate":
        return Program("generate", (("output", draw("I", "step")), ("output_length", draw("number", "whole"))))
    shape = "position" if adapter == "every" else "whole"
    kind = "token" if adapter == "step" else "I"
    return Program(adapter, (("output", draw(kind, shape)),))


def run(text: str) -> dict[str, Any]:
    """Execute an emitted file with its self-test, in a namespace of its own."""
    namespace: dict[str, Any] = {"__name__": "__main__", "print": lambda *_: None}
    exec(compile(text, "emitted.py", "exec"), namespace)
    return namespace


@pytest.mark.parametrize("vocabulary", (SYMBOLS, NUMBERS), ids=("symbols", "numbers"))
@pytest.mark.parametrize("adapter", tuple(READOUTS))
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_emitted_python_is_reference(adapter: str, vocabulary: Vocabulary, data: st.DataObject) -> None:
    program, readout = drawn_program(data, adapter, vocabulary), READOUTS[adapter]
    words = [
        tuple(w) for w in data.draw(st.lists(st.lists(st.sampled_from(vocabulary.names[:5]), max_size=3), max_size=4))
    ]
    text = to_python(program, vocabulary, readout, words[:1], ("a domain", 'with """ and \\ \n in it'))
    assert not any(isinstance(node, (ast.Import, ast.ImportFrom)) for node in ast.walk(ast.parse(text)))
    predict = run(text)["predict"]
    for word in words:
        assert predict(list(word)) == expected_answer(program, word, vocabulary, readout), (text, word)
