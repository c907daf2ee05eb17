"""What the files of other projects say beside their tensors, as the checker reads it."""

from __future__ import annotations

from typing import Any

import pytest

from extract.check.facts import Facts


def facts(config: dict[str, Any] | None = None, told: dict[str, Any] | None = None) -> Facts:
    return Facts(config or {}, {}, told or {})


@pytest.mark.parametrize(
    ("sources", "expected"),
    (
        ([], [0.5, 0.5, 0.5]),
        ([{"scale_attn_by_inverse_layer_idx": True}], [0.5, 0.25, 0.5 / 3]),
        ([{"scale_attn_weights": False}, {"scale_attn_by_inverse_layer_idx": True}], [1.0, 0.5, 1 / 3]),
        ([{"attn_scale": 4.0}, {"scale_attn_by_inverse_layer_idx": False}], [0.25, 0.25, 0.25]),
        ([{"use_attn_scale": True}, {"attn_scale": 2.0}], [0.5, 0.5, 0.5]),
    ),
)
def test_attention_scales_are_those_that_all_say(sources: list[dict[str, Any]], expected: list[float]) -> None:
    assert facts(*sources).scales(4, 3) == pytest.approx(expected)


def test_two_scales_are_refused() -> None:
    with pytest.raises(ValueError, match="attention scale is said to be"):
        facts({"use_attn_scale": False}, {"attn_scale": 2.0}).scales(4, 1)
