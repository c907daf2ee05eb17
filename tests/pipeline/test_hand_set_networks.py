"""Networks whose weights were set by hand, so that the program is known before anything is searched, end to end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from extract import RunRequest, run
from extract.network import Network, Norm
from tests.networks import random_network, write_gpt2

NAMES = ["0", "1", "2", "<sep>"]
WIDTH = 8


def blank(strength: float) -> Network:
    """Return one layer that averages its inputs with weight ``strength`` and adds the read token itself."""
    drawn = random_network(0, n_layers=1, d_model=WIDTH, n_heads=1, d_vocab=len(NAMES), n_ctx=10, tied=False)
    embed = np.zeros((len(NAMES), WIDTH), np.float32)
    for i in range(len(NAMES)):
        embed[i, 2 * i], embed[i, 2 * i + 1] = 1, -1  # mean 0 and equal length: layer norm only scales it
    plain = Norm(np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32))
    layer = drawn.layers[0]
    identity = np.eye(WIDTH, dtype=np.float32)
    zeros = {name: np.zeros_like(getattr(layer, name)) for name in ("W_Q", "b_Q", "W_K", "b_K", "b_V", "b_O")}
    zeros |= {name: np.zeros_like(getattr(layer, name)) for name in ("W_in", "b_in", "W_out", "b_out")}
    layer = replace(
        layer, norm_attention=plain, norm_mlp=plain, W_V=identity[None], W_O=strength * identity[None], **zeros
    )
    return replace(
        drawn, embed=embed, pos_embed=np.zeros_like(drawn.pos_embed), layers=(layer,), norm_final=plain,
        W_U=np.ascontiguousarray(4 * embed.T), b_U=np.zeros(len(NAMES), np.float32),
    )  # fmt: skip


def folder_of(tmp_path: Path, network: Network, *, template: str, where: str | None, letters: int) -> Path:
    folder = write_gpt2(network, tmp_path / "checkpoint")
    quoted = [f'"{name}"' for name in NAMES]
    promise = f'where = "{where}"' if where else ""
    (folder / "spec.toml").write_text(
        f"""
version = 1
name = "by hand"
[tokens]
vocab = [{", ".join(quoted)}]
[domain]
alphabet = [{", ".join(quoted[:letters])}]
min_length = 1
max_length = 6
template = "{template}"
{promise}
[readout]
at = "last"
kind = "argmax"
choices = [{", ".join(quoted[:letters])}]
""",
        encoding="utf-8",
    )
    return folder


def test_without_attention_it_repeats_the_last_token(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, blank(0.0), template="{x}", where=None, letters=3)
    report = run(RunRequest(checkpoint=folder))
    assert report.status == "proved"
    assert report.programs[0].text == "output = last(everywhere, tokens)\n"
    assert report.verdict is not None
    assert report.verdict.inputs_total == sum(3**n for n in range(1, 7))


def test_uniform_attention_is_a_majority_where_there_is_no_tie(tmp_path: Path) -> None:
    promise = "count(tokens == '0') != count(tokens == '1')"
    folder = folder_of(tmp_path, blank(3.0), template="{x} <sep>", where=promise, letters=2)
    report = run(RunRequest(checkpoint=folder))
    assert report.status == "proved"  # by counting, or as the median of the sorted tokens: both are right
    assert report.programs[0].cost <= 9


@pytest.mark.parametrize("semantics", ["real", "f32-any-order"])
def test_exact_ties_are_fragile_and_nothing_is_proved(tmp_path: Path, semantics: str) -> None:
    folder = folder_of(tmp_path, blank(3.0), template="{x} <sep>", where=None, letters=2)
    report = run(RunRequest(checkpoint=folder, semantics=semantics))
    assert report.status not in ("proved", "proved_except")
    assert report.verdict is not None
    # 2 + 6 + 20 strings of length 2, 4 and 6 hold as many 0s as 1s
    assert report.numerics is not None
    assert report.numerics.fragile_count == 28
    assert report.verdict.undecided == 28
