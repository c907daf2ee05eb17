"""Look-alikes, contradictions and missing facts: resolved by shapes, listed, or refused; never silently misread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from extract.check.reader import Unreadable, read_network
from extract.errors import CheckpointError, SpecError
from extract.formats import inspect_checkpoint, load_checkpoint
from extract.spec import ModelFacts
from tests.unit.formats.test_layouts import (
    TORCH_NAMES,
    encoder,
    left,
    lens,
    llama,
    nano,
    native,
    per_head,
    tracr,
    worst,
    write,
)

State = dict[str, Any]


def refused(state: State, config: State | None, folder: Path, message: str, facts: State | None = None) -> None:
    """Both readers refuse, ours with this message."""
    write(state, config, folder, is_torch=True)
    with pytest.raises((CheckpointError, SpecError), match=message) as caught:
        load_checkpoint(folder, ModelFacts(**(facts or {})))
    assert "\n" not in str(caught.value)
    with pytest.raises(Unreadable):
        read_network(folder, facts or {})


def without(config: State, *keys: str) -> State:
    return {key: value for key, value in config.items() if key not in keys}


SQUARE: State = {"n_heads": 1, "d_head": 6, "d_model": 6, "d_mlp": 6, "d_vocab": 6, "d_vocab_out": 6, "n_ctx": 6}


@pytest.mark.parametrize("is_easy", [True, False])
def test_square_weights_fit_two_layouts_until_the_spec_says_which(is_easy: bool, tmp_path: Path) -> None:
    bare = {"normalization_type": None, "n_layers": 1, "act_fn": "relu"}
    module, state, config, _ = left(0, is_easy=True, **SQUARE) if is_easy else lens(0, **SQUARE, **bare)
    assert config is not None
    state = {k: v for k, v in state.items() if "b_Q" not in k and "IGNORE" not in k}
    refused(state, config, tmp_path, "fits TransformerLens and EasyTransformer of 2022 equally well")
    name = "easy_transformer" if is_easy else "transformer_lens"
    other = "transformer_lens" if is_easy else "easy_transformer"
    if is_easy:
        network = load_checkpoint(tmp_path, ModelFacts(format=name)).network
        assert worst(network, module, 0) < 1e-5
        assert worst(load_checkpoint(tmp_path, ModelFacts(format=other)).network, module, 0) > 1e-2


def test_the_rank_of_the_output_map_tells_left_from_right(tmp_path: Path) -> None:
    module, state, config, _ = left(1, **SQUARE)
    checkpoint = load_checkpoint(write(state, config, tmp_path, is_torch=False))
    assert checkpoint.format == "left_facing"
    assert any("[D, HK]" in line for line in checkpoint.evidence)
    assert worst(checkpoint.network, module, 0) < 1e-5


@given(st.integers(1, 3), st.integers(1, 4), st.integers(2, 9))
def test_nanogpt_is_never_taken_for_gpt2(heads: int, width: int, n_vocab: int) -> None:
    from extract.formats.detect import FORMATS
    from extract.formats.safetensors import Header, TensorInfo
    from tests.unit.formats.linear_originals import NanoGpt

    state = NanoGpt(n_vocab, 5, heads * width, heads, 1, bias=True).state_dict()
    for is_turned in (False, True):
        shapes = {
            name: tuple(reversed(value.shape)) if is_turned and ".c_" in name else tuple(value.shape)
            for name, value in state.items()
        }  # fmt: skip
        header = Header({name: TensorInfo(name, "F32", shape, 0, 0) for name, shape in shapes.items()}, 0, 0)
        fits = [f.name for f in FORMATS if f.match(header).is_complete]
        assert fits == (["gpt2"] if is_turned else ["nanogpt"])


def test_a_causal_mask_in_the_file_says_nothing(tmp_path: Path) -> None:
    _, state, config, _ = lens(2, attention_dir="bidirectional")
    assert config is not None
    write(state, without(config, "attention_dir"), tmp_path, is_torch=True)
    found = inspect_checkpoint(tmp_path)
    assert found.architecture is None
    assert found.spec_must_add[0].startswith("[model] attention = ")
    with pytest.raises(CheckpointError, match="the spec must add: \\[model\\] attention"):
        load_checkpoint(tmp_path)
    network = load_checkpoint(tmp_path, ModelFacts(attention="bidirectional")).network
    assert network.architecture.attention == "bidirectional"


def test_norms_without_gains_are_asked_for(tmp_path: Path) -> None:
    _, state, config, _ = lens(3, normalization_type="LNPre")
    assert config is not None
    write(state, without(config, "normalization_type", "eps"), tmp_path, is_torch=True)
    assert [line.split(" =")[0] for line in inspect_checkpoint(tmp_path).spec_must_add[:1]] == ["[model] norm"]
    network = load_checkpoint(tmp_path, ModelFacts(norm="layernorm", eps=1e-5)).network
    assert network.norm_final is not None and network.architecture.norm == "layernorm"
    assert load_checkpoint(tmp_path, ModelFacts(norm="none")).network.norm_final is None
    write(state, config | {"normalization_type": "LN"}, tmp_path, is_torch=True)
    with pytest.raises(
        CheckpointError, match='normalization_type is "LN", expected True, no gains of norms are stored'
    ):
        load_checkpoint(tmp_path)


def test_a_bare_file_lists_everything_the_spec_must_add(tmp_path: Path) -> None:
    _, state, _, _ = lens(4, normalization_type=None)
    write(state, None, tmp_path, is_torch=True)
    names = [line.split(" = ")[0] for line in inspect_checkpoint(tmp_path).spec_must_add]
    assert names[:3] == ["[model] norm", "[model] attention", "[model] activation"]
    facts = ModelFacts(norm="none", attention="causal", activation="gelu_tanh")
    assert load_checkpoint(tmp_path, facts).network.architecture.activation == "gelu_tanh"


MINGPT_OR_NANOGPT = "heads = .*activation = "
CONTRADICTED: list[tuple[str, State, str]] = [
    ("two names of one fact", {"num_heads": 4}, "num_heads is 4"),
    ("a size", {"d_model": 99}, "d_model is 99, expected 12"),
    ("a layer", {"n_layers": 1}, "n_layers is 1, expected 2"),
    ("a word", {"act_fn": "gelu_fast"}, 'act_fn is "gelu_fast", expected one of'),
    ("a soft cap", {"attn_scores_soft_cap": 30.0}, "attn_scores_soft_cap is 30.0"),
    ("a soft cap of one", {"output_logits_soft_cap": 1}, "output_logits_soft_cap is 1"),
    ("parallel parts", {"parallel_attn_mlp": True}, "parallel_attn_mlp is true"),
    ("a window", {"use_local_attn": True}, "use_local_attn is true"),
    ("other positions", {"positional_embedding_type": "shortformer"}, "positional_embedding_type"),
    ("mixed attention that is causal", {"attn_coeff": 0.5}, "0.5 . softmax"),
    ("a scale", {"attention_scale": 0.7, "use_attn_scale": True}, "0.7"),
    ("another head", {"attn_only": True}, "attn_only is true, expected False, an MLP is stored"),
    ("no norm", {"normalization_type": None}, "normalization_type is null, expected 'layernorm'"),
    ("pad masking without its token", {"pad_is_masked": True}, "pad_token_id"),
    ("a gate", {"gated_mlp": True}, "gated_mlp is true, expected False"),
    ("a hidden norm", {"act_fn": "solu_ln"}, "act_fn is .solu_ln., expected a name with _ln exactly where"),
]
#: What the checker leaves to the tool: sizes and words that change nothing it computes.
ONLY_OURS = {"a size", "a layer", "another head", "a gate", "a hidden norm"}


@pytest.mark.parametrize(("name", "changes", "message"), CONTRADICTED, ids=[name for name, _, _ in CONTRADICTED])
def test_what_config_says_otherwise_is_refused(name: str, changes: State, message: str, tmp_path: Path) -> None:
    _, state, config, _ = lens(5)
    assert config is not None
    write(state, config | changes, tmp_path, is_torch=False)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path)
    if name not in ONLY_OURS:
        with pytest.raises(Unreadable):
            read_network(tmp_path)


def test_what_the_spec_says_otherwise_is_refused(tmp_path: Path) -> None:
    _, state, config, _ = left(6, attention_dir="bidirectional", attn_coeff=0.25)
    write(state, config, tmp_path, is_torch=True)
    assert load_checkpoint(tmp_path, ModelFacts(attention_mix=0.25)).network.architecture.softmax_share == 0.25
    for facts in (
        ModelFacts(attention_mix=0.5), ModelFacts(activation="silu"), ModelFacts(attention="causal"),
        ModelFacts(norm="layernorm"), ModelFacts(positions="none"), ModelFacts(kv_heads=1), ModelFacts(heads=1),
    ):  # fmt: skip
        with pytest.raises(SpecError, match=r"\$\.model\."):
            load_checkpoint(tmp_path, facts)


def test_only_copies_of_the_embedding_are_passed_over(tmp_path: Path) -> None:
    _, state, config, _ = lens(7)
    copy = state["embed.W_E"].clone()
    found = load_checkpoint(write(state | {"x_embed": copy}, config, tmp_path, is_torch=True))
    assert any("exact copies of the embedding: x_embed" in line for line in found.evidence)
    assert found.network.embed.shape == (5, 12)
    read_network(tmp_path)
    copy[2, 3] += 1e-6
    refused(state | {"x_embed": copy}, config, tmp_path, "x_embed has no place in TransformerLens and is no copy")
    refused(state | {"other": torch.ones(3)}, config, tmp_path, "no place for other")


def test_tables_of_another_rotation_are_refused(tmp_path: Path) -> None:
    rotary = {"positional_embedding_type": "rotary", "rotary_dim": 4, "rotary_base": 10, "rotary_adjacent_pairs": True}
    _, state, config, _ = lens(8, **rotary)
    assert config is not None
    for changes in ({"rotary_base": 11}, {"rotary_adjacent_pairs": False}):
        refused(state, config | changes, tmp_path, "rotary_.* is not the table of the rotation")


def test_parts_that_are_not_read_are_refused(tmp_path: Path) -> None:
    _, state, config, _ = lens(9, act_fn="silu", gated_mlp=True)
    state["blocks.0.mlp.b_in"] = torch.ones_like(state["blocks.0.mlp.b_in"])
    refused(state, config, tmp_path, "mlp.b_in is not zero: TransformerLens adds it after the gate")
    _, state, config, _ = lens(10)
    del state["blocks.1.attn.W_O"]
    refused(state, config, tmp_path, "missing blocks.1.attn.W_O")
    _, state, config, _ = native(0, bridge=True, d_mlp=8)
    write(state, config, tmp_path, is_torch=True)
    with pytest.raises(CheckpointError, match="nothing shows which way round"):
        load_checkpoint(tmp_path)


def test_the_native_model_does_not_do_all_its_config_says(tmp_path: Path) -> None:
    _, state, config, _ = native(1, gated_mlp=True, act_fn="silu")
    assert config is not None
    refused(state, config | {"use_attn_scale": False}, tmp_path, "use_attn_scale is false, expected true or nothing")
    refused(state, config | {"act_fn": "relu"}, tmp_path, "expected silu, gelu or gelu_new beside a gate")


def test_two_kinds_of_norms_are_refused(tmp_path: Path) -> None:
    _, state, config, _ = lens(11)
    for block in (0, 1):
        state |= {f"blocks.{block}.attn.{x}_norm.w": torch.ones(4) for x in "qk"}
    refused(state, config, tmp_path, "the stream has layernorm norms and other parts have rms ones")


def test_nanogpt_ties_its_head_and_minigpt_must_say_its_activation(tmp_path: Path) -> None:
    _, state, _, _ = nano(1, bias=True)
    state["model"]["lm_head.weight"] = state["model"]["lm_head.weight"] + 1
    refused(state, None, tmp_path, "differs from the embedding, but nanoGPT ties them")
    _, bare, _, _ = nano(2, in_file=False, bias=True)
    write(bare, None, tmp_path, is_torch=True)
    with pytest.raises(CheckpointError, match=MINGPT_OR_NANOGPT):
        load_checkpoint(tmp_path)


def test_gemma_is_not_llama(tmp_path: Path) -> None:
    _, state, config, _ = llama(0)
    assert config is not None
    refused(state, config | {"model_type": "gemma"}, tmp_path, 'model_type is "gemma", expected one of llama')
    refused(state, config | {"hidden_act": "gelu_pytorch_tanh"}, tmp_path, "a gated GELU is Gemma's")
    refused(state, config | {"rope_scaling": {"rope_type": "yarn"}}, tmp_path, "rope_scaling")
    refused(state, config | {"sliding_window": 4}, tmp_path, "sliding_window")
    write(state, without(config, "rope_theta", "rms_norm_eps", "hidden_act"), tmp_path, is_torch=True)
    with pytest.raises(CheckpointError, match=r"eps = .*rope_theta = .*activation = "):
        load_checkpoint(tmp_path)


def test_an_encoder_is_read_only_if_names_tell_its_surroundings(tmp_path: Path) -> None:
    _, state, config, _ = encoder(0, TORCH_NAMES)
    assert config is not None
    renamed = {k.replace("fc_out", "mystery"): v for k, v in state.items()}
    refused(renamed, config, tmp_path, "no single matrix outside is named as a head")
    twice = state | {"head.weight": state["fc_out.weight"], "head.bias": state["fc_out.bias"]}
    refused(twice, config, tmp_path, "head")
    write(state, without(config, "norm_first", "activation", "attention", "nhead"), tmp_path, is_torch=True)
    with pytest.raises(CheckpointError, match=r"heads = .*norm_position = .*attention = .*activation = "):
        load_checkpoint(tmp_path)
    _, state, config, _ = encoder(1, TORCH_NAMES, pe=True)
    assert config is not None
    write(state, without(config, "embed_scale"), tmp_path, is_torch=True)
    with pytest.raises(CheckpointError, match="embed_scale"):
        load_checkpoint(tmp_path)


def test_tracr_needs_its_output_basis(tmp_path: Path) -> None:
    _, state, config, _ = tracr(0, 1, 1, False, [0, 1])
    assert config is not None
    write(state, without(config, "unembed"), tmp_path, is_torch=False)
    assert "unembed.residual_rows" in inspect_checkpoint(tmp_path).spec_must_add[0]
    for unembed in ({"residual_rows": [0, 10]}, {"residual_rows": [1, 1]}, {"residual_rows": []}, [1]):
        refused(state, config | {"unembed": unembed}, tmp_path, "unembed is .*, expected residual_rows")
    refused(
        state, config | {"output_encoder": {"encoding_map": [[1, 0]]}}, tmp_path, "2 residual rows, but .* 1 outputs"
    )
    normed = config | {"model_config": config["model_config"] | {"layer_norm": True}}
    refused(state, normed, tmp_path, "layer_norm is true, expected 'none'")


def test_heads_of_their_own_must_be_even(tmp_path: Path) -> None:
    _, state, config, _ = per_head(0, 3, False, True)
    del state["layers.1.heads.2.W_K.weight"]
    refused(state, config, tmp_path, r"missing layers\.1\.heads\.2\.W_K\.weight")
