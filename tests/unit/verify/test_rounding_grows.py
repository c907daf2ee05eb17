"""Every error formula grows with everything it is made of: a sign turned or a factor divided by shows at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from extract.readout import ReadOut
from extract.verify.rounding import FLOAT32, FLOAT64, Analysis, Measured, Weighing
from extract.verify.weight_norms import measure_weights
from tests.networks import random_network

ERRORS = (1e-7, 1e-3)
LARGER = 1.25


def analysis(seed: int) -> Analysis:
    network = random_network(seed, n_layers=1, spread=0.5)
    weights = measure_weights(network, ReadOut("last", "argmax", tuple(range(5))))
    return Analysis(weights, (FLOAT64, FLOAT32))


def grown(call: Any, given: dict[str, Any], name: str) -> None:
    """Check that a larger argument gives larger errors, every one of them, and strictly so somewhere."""
    before = np.array(call(**given))
    for index in range(2) if isinstance(given[name], tuple) else [None]:
        value = given[name]
        more = (
            value * LARGER if index is None else tuple(v * (LARGER if i == index else 1) for i, v in enumerate(value))
        )
        after = np.array(call(**{**given, name: more}))
        assert (after >= before).all() and (after > before).any(), (name, index)


@pytest.mark.parametrize("seed", range(4))
def test_stages_grow(seed: int) -> None:
    a = analysis(seed)
    layer = a.weights.layers[0]
    grown(a.embed, {"x_norm": 2.0}, "x_norm")
    for name in ("left", "right", "norm"):
        grown(a.add, {"left": ERRORS, "right": (1e-6, 1e-2), "norm": 3.0}, name)
    for name in ("errors", "x_norm"):
        grown(a.normalise, {"errors": ERRORS, "deviation": 0.7, "x_norm": 3.0}, name)
        grown(a.head, {"errors": ERRORS, "x_norm": 3.0}, name)
    grown(lambda closeness: a.normalise(ERRORS, 1 / closeness, 3.0), {"closeness": 1.0}, "closeness")
    for slope in (None, 0.3):
        for name in ("errors", "x_norm", "h_norm") + (() if slope is None else ("slope",)):
            given = {"layer": layer, "errors": ERRORS, "x_norm": 3.0, "h_norm": 4.0, "slope": slope}
            grown(a.mlp, given, name)
    grown(lambda measured: [a.slope(measured, layer)], {"measured": 0.3}, "measured")
    for i in (0, 1):
        for norms in (layer.mlp_in, layer.mlp_out):
            grown(lambda x_norm, i=i, norms=norms: [a.linear(i, norms, x_norm)], {"x_norm": 2.0}, "x_norm")


def part(errors: Any, norm: float = 2.0, reach: float = 1.5) -> Measured:
    return Measured(norm, reach, errors, tuple(e / 2 for e in errors), tuple(3 * e for e in errors))


@pytest.mark.parametrize("name", ("query", "key", "value"))
@pytest.mark.parametrize("field", ("norm", "reach", "source", "local", "errors"))
def test_attention_grows_with_every_measure(name: str, field: str) -> None:
    a = analysis(1)
    given: dict[str, Any] = {key: part(ERRORS) for key in ("query", "key", "value")}
    if (name, field) == ("value", "reach"):
        return  # what a value is multiplied by next is the output matrix, not a score

    def call(measure: Any) -> Any:
        changed = replace(given[name], **{field: measure})
        return a.attend(a.weights.layers[0], **{**given, name: changed}, weighing=Weighing(5, 1e-9, 0.4))

    grown(call, {"measure": getattr(given[name], field)}, "measure")


def test_attention_grows_with_keys_fading_and_spread() -> None:
    a = analysis(2)
    given = {key: part((1e-7, 1e-6)) for key in ("query", "key", "value")}
    for name, value in (("n_keys", 8), ("faded", 1e-6), ("spread", 0.3)):

        def call(amount: float, name: str = name) -> Any:
            weighing = replace(Weighing(8, 1e-6, 0.3), **{name: amount})
            return a.attend(a.weights.layers[0], **given, weighing=weighing)

        grown(call, {"amount": value}, "amount")
    without = a.attend(a.weights.layers[0], **given, weighing=Weighing(8, 1e-6, None))
    with_spread = a.attend(a.weights.layers[0], **given, weighing=Weighing(8, 1e-6, 0.3))
    assert (np.array(without) >= np.array(with_spread)).all()


def test_the_margin_bound_is_ours_and_the_worst_of_the_others() -> None:
    a = analysis(3)
    assert a.margin_bound((1e-6, 1e-3)) >= 1e-6 + 1e-3
    assert a.margin_bound((1e-6, 1e-3, 2e-3)) >= 1e-6 + 2e-3
    assert a.margin_bound((1e-6,)) == pytest.approx(1e-6, rel=1e-3)
