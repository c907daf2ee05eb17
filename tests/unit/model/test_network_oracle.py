"""The oracle: each read-out equals a loop over inputs written out here, however the questions are batched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.domain import Domain, build_domain
from extract.errors import DomainError, ExtractError, SpecError
from extract.model.forward import Forward
from extract.model.network_oracle import NetworkOracle
from extract.network import Network
from extract.readout import Answers, Inputs
from extract.spec import DomainSpec, ReadOutSpec, TaskSpec, Tokens
from extract.vocabulary import ABSENT, UNDETERMINED, Vocabulary
from tests.networks import random_network

VOCAB = ("a", "b", "c", "<bos>", "<sep>", "<eos>")


def no_promise(text: str, vocabulary: Vocabulary) -> Any:
    raise AssertionError(text)


def make_domain(
    *,
    vocab: tuple[str, ...] = VOCAB,
    numeric: bool = False,
    min_length: int = 1,
    max_length: int = 4,
    template: str = "<bos> {x} <sep>",
    offsets: tuple[int, ...] = (0, 2),
    **readout: Any,
) -> Domain:
    domain = DomainSpec(max_length=max_length, min_length=min_length, template=template, offsets=offsets)
    spec = TaskSpec(
        version=1, tokens=Tokens(vocab, numeric), domain=domain, readout=ReadOutSpec(**readout), name="for people only"
    )
    return build_domain(spec, no_promise)


def network_for(seed: int = 0, n_ctx: int = 12, **options: Any) -> Network:
    return random_network(seed, options.pop("n_layers", 2), 8, 2, len(VOCAB), n_ctx, spread=0.5, **options)


def every_input(domain: Domain, n: int = 60, seed: int = 0) -> Inputs:
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        length = int(rng.integers(domain.min_length, domain.max_length + 1))
        rows.append((tuple(int(t) for t in rng.choice(domain.alphabet, length)), int(rng.choice(domain.offsets))))
    return Inputs.of(rows)


def decide(logits: Any, choices: tuple[int, ...]) -> tuple[int, float]:
    ranked = sorted(choices, key=lambda i: (-float(logits[i]), i))
    margin = float(logits[ranked[0]] - logits[ranked[1]]) if len(ranked) > 1 else np.inf
    return ranked[0], margin


def naive(network: Network, domain: Domain, tokens: tuple[int, ...], offset: int) -> tuple[list[int], float]:
    """One input at a time, every forward pass from the start: codes and margin."""
    forward, readout, codes = Forward(network), domain.readout, domain.vocabulary.output_codes
    prompt = [int(t) for t in domain.render(np.array([tokens], dtype=np.int32).reshape(1, -1))[0]]
    logits = forward.logits(torch.tensor([prompt]), offset)[0].numpy()
    if readout.kind == "multilabel":
        at = logits[-1 if readout.at == "last" else 0]
        distances = [float(at[i]) - readout.threshold for i in readout.choices]
        return [int(d > 0) for d in distances], min(abs(d) for d in distances)
    if readout.at in ("last", "first"):
        best, margin = decide(logits[-1 if readout.at == "last" else 0], readout.choices)
        return [int(codes[best])], margin
    if readout.at == "every":
        begin = prompt.index(tokens[0]) if tokens else 0
        read = [decide(logits[begin + i], readout.choices) for i in range(len(tokens))]
        return [int(codes[best]) for best, _ in read], min((m for _, m in read), default=np.inf)
    made: list[float] = []
    answer: list[int] = []
    limit = readout.max_new or network.architecture.n_ctx - offset - len(prompt) + 1
    while len(answer) < limit:
        logits = forward.logits(torch.tensor([prompt + answer]), offset)[0].numpy()
        best, margin = decide(logits[-1], readout.choices)
        made.append(margin)
        if best == readout.stop:
            break
        answer.append(best)
    return [int(codes[t]) for t in answer], min(made)


def assert_naive(network: Network, domain: Domain, inputs: Inputs, answers: Answers) -> None:
    assert answers.values.dtype == np.int32 and answers.margins.dtype == np.float64
    rows = []
    for i in range(len(inputs)):
        expected, margin = naive(network, domain, *inputs.row(i))
        rows.append(expected)
        row = answers.values[i]
        assert row[: len(expected)].tolist() == expected
        assert (row[len(expected) :] == ABSENT).all()
        assert answers.margins[i] == pytest.approx(margin, rel=1e-6, abs=1e-8)
    assert answers.values.shape[1] == max(len(row) for row in rows)


READOUTS: dict[str, dict[str, Any]] = {
    "last": {"at": "last"},
    "last among choices": {"at": "last", "choices": ("c", "a")},
    "first": {"at": "first"},
    "every": {"at": "every"},
    "generate to a stop": {"at": "generate", "stop": "<eos>", "max_new": 4},
    "generate to the end of the positions": {"at": "generate", "stop": "<eos>"},
    "generate without a stop": {"at": "generate", "max_new": 3},
    "multilabel": {"at": "last", "kind": "multilabel", "threshold": 0.25},
    "multilabel first among choices": {"at": "first", "kind": "multilabel", "choices": ("b", "<eos>")},
}


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
@pytest.mark.parametrize("name", list(READOUTS))
def test_each_readout_equals_a_plain_loop(name: str, attention: Any) -> None:
    domain = make_domain(**READOUTS[name])
    for seed in range(3):
        network = network_for(seed, attention=attention)
        inputs = every_input(domain, 25, seed)
        assert_naive(network, domain, inputs, NetworkOracle(network, domain).answer(inputs))


@settings(max_examples=40)
@given(
    name=st.sampled_from(list(READOUTS)),
    seed=st.integers(0, 9),
    n_layers=st.integers(0, 3),
    batch_cells=st.integers(1, 20_000),
    cache_rows=st.sampled_from([0, 5, 1000]),
    data=st.data(),
)
def test_answers_do_not_depend_on_batches_or_cache(
    name: str, seed: int, n_layers: int, batch_cells: int, cache_rows: int, data: st.DataObject
) -> None:
    network = network_for(seed, n_layers=n_layers)
    domain = make_domain(**READOUTS[name])
    inputs = every_input(domain, 40, seed)
    whole = NetworkOracle(network, domain, cache_rows=0).answer(inputs)
    oracle = NetworkOracle(network, domain, batch_cells=batch_cells, cache_rows=cache_rows)
    for _ in range(3):
        rows = np.array(data.draw(st.lists(st.integers(0, 39), max_size=30)), dtype=np.intp)
        part = oracle.answer(inputs.take(rows))
        assert part.margins.tolist() == whole.margins[rows].tolist()
        width = part.values.shape[1]
        assert np.array_equal(part.values, whole.values[rows][:, :width])
        assert (whole.values[rows][:, width:] == ABSENT).all()


def test_enumeration_order_equals_any_order() -> None:
    for name in ("last", "every", "generate to a stop"):
        domain = make_domain(max_length=6, offsets=(0,), **READOUTS[name])
        network = network_for(5)
        tokens = domain.tokens(6, 0, domain.size_at(6))
        n = len(tokens)
        inputs = Inputs(tokens, np.full(n, 6, np.int32), np.zeros(n, np.int32))
        oracle = NetworkOracle(network, domain, cache_rows=0)
        answers, order = oracle.answer(inputs), np.random.default_rng(0).permutation(n)
        mixed = oracle.answer(inputs.take(order))
        assert np.array_equal(mixed.values, answers.values[order])
        assert np.array_equal(mixed.margins, answers.margins[order])
        few = inputs.take(order[:20])
        assert_naive(network, domain, few, oracle.answer(few))


def test_an_exact_tie_has_margin_zero_and_no_name() -> None:
    network = network_for(1)
    unembed = network.W_U.copy()
    unembed[:, 4], unembed[:, 0] = unembed[:, 1], unembed[:, 1] - 100
    unembed[:, 1] += 50 * np.sign(unembed[:, 1])
    unembed[:, 4] = unembed[:, 1]
    tied = replace(network, W_U=unembed)
    domain = make_domain(at="last", choices=("b", "<sep>"))
    answers = NetworkOracle(tied, domain).answer(every_input(domain))
    assert (answers.margins == 0).all()
    assert (answers.values == UNDETERMINED).all()


def test_a_logit_on_the_threshold_is_not_above_it() -> None:
    network = network_for(2)
    silent = replace(network, W_U=np.zeros_like(network.W_U))
    domain = make_domain(at="last", kind="multilabel")
    answers = NetworkOracle(silent, domain).answer(every_input(domain))
    assert (answers.values == 0).all() and (answers.margins == 0).all()


def test_outputs_and_integers_have_their_codes() -> None:
    names = ("-1", "0", "5", "<bos>")
    outputs = ("neg", "0", "7")
    domain = make_domain(
        vocab=names, numeric=True, template="<bos> {x}", at="every", outputs=outputs, choices=("neg", "7")
    )
    network = random_network(3, 1, 8, 2, 4, 12, d_vocab_out=3)
    answers = NetworkOracle(network, domain).answer(every_input(domain))
    allowed = {7, domain.vocabulary.symbol_code("neg"), ABSENT}
    assert set(answers.values.reshape(-1).tolist()) == allowed


def test_the_empty_input_and_no_input() -> None:
    domain = make_domain(min_length=0, template="{x}", at="every")
    oracle = NetworkOracle(network_for(), domain)
    answers = oracle.answer(Inputs.of([((), 0), ((0, 1), 0)]))
    assert answers.values[0].tolist() == [ABSENT, ABSENT] and answers.margins[0] == np.inf
    for name, readout in READOUTS.items():
        none = NetworkOracle(network_for(), make_domain(**readout)).answer(Inputs.of([]))
        assert len(none) == 0 and none.values.shape[0] == 0, name


def test_inputs_outside_the_domain_are_answered_or_refused() -> None:
    domain = make_domain(max_length=4, at="last")
    network = network_for()
    oracle = NetworkOracle(network, domain)
    outside = Inputs.of([((0, 4, 5, 3, 0, 0, 0), 1)])
    assert_naive(network, domain, outside, oracle.answer(outside))
    with pytest.raises(DomainError, match=r"length 7 take 9 tokens from offset 4, expected at most n_ctx = 12"):
        oracle.answer(Inputs.of([((0,) * 7, 4)]))
    with pytest.raises(DomainError, match="input 1 has token id 6 at position 2, expected 0 to 5"):
        oracle.answer(Inputs.of([((0,), 0), ((0, 1, 6), 0)]))


MISFITS: list[tuple[dict[str, Any], type[ExtractError], str]] = [
    ({"vocab": VOCAB[:5], "template": "{x}"}, SpecError, "vocab has 5 names, the embedding has 6 rows"),
    ({"outputs": ("x", "y")}, SpecError, "2 names, the network has 6 logits"),
    ({"kind": "value"}, SpecError, "'value', but the network has 6 outputs, expected one"),
    ({"max_length": 11}, DomainError, "length 9 take 11 tokens from offset 2, expected at most n_ctx = 12"),
    ({"offsets": (0, 9)}, DomainError, "length 2 take 4 tokens from offset 9"),
    ({"at": "generate", "max_new": 6}, DomainError, "take 6 tokens and 5 generated ones from offset 2"),
]


@pytest.mark.parametrize(("options", "kind", "message"), MISFITS, ids=[m for _, _, m in MISFITS])
def test_misfits_are_refused_at_once(options: dict[str, Any], kind: type[ExtractError], message: str) -> None:
    with pytest.raises(kind, match=message):
        NetworkOracle(network_for(), make_domain(**{"at": "last", **options}))


def test_generation_just_fits() -> None:
    domain = make_domain(at="generate", max_new=5, max_length=4)
    network = network_for()
    inputs = every_input(domain, 20)
    assert_naive(network, domain, inputs, NetworkOracle(network, domain).answer(inputs))


def test_float32_answers_agree_where_the_margin_is_clear() -> None:
    domain = make_domain(at="last")
    network = network_for(4)
    inputs = every_input(domain)
    wide, narrow = (NetworkOracle(network, domain, precision=p).answer(inputs) for p in ("float64", "float32"))
    clear = wide.margins > 1e-3
    assert clear.mean() > 0.8
    assert np.array_equal(wide.values[clear], narrow.values[clear])


@pytest.mark.parametrize(
    ("folder", "tokens", "expected"),
    [
        ("bin_majority-best-1l1h16d3lr01drop", "0 1 1", ["1"]),
        ("addition-best-4l2h64d3lr00drop", "1 0 + 1 1", ["1", "0", "1"]),
        ("bin_majority_interleave-best-2l2h16d3lr00drop", "0 1 1 0 1 1 0 1 0", ["0", "1", "1"]),
        ("unique_copy-best-2l1h64d3lr01drop", "5 17 3", ["5", "17", "3"]),
    ],
)
def test_real_checkpoints_answer(shared_checkpoints: Path, folder: str, tokens: str, expected: list[str]) -> None:
    from extract.formats import load_checkpoint
    from extract.spec import load_spec

    spec = load_spec(shared_checkpoints / "drasp" / folder / "spec.toml").spec
    domain = build_domain(spec, lambda text, vocabulary: AnyString(text))
    oracle = NetworkOracle(load_checkpoint(shared_checkpoints / "drasp" / folder).network, domain)
    ids = tuple(domain.vocabulary.token_id(t) for t in tokens.split())
    answers = oracle.answer(Inputs.of([(ids, 0)]))
    assert [domain.vocabulary.name(int(c)) for c in answers.values[0]] == expected
    assert answers.margins[0] > 0.1


class AnyString:
    """A promise that every string keeps."""

    def __init__(self, text: str) -> None:
        self.text = text

    def holds(self, tokens: Any) -> Any:
        return np.ones(len(tokens), dtype=np.bool_)

    def machine(self, length: int | None) -> None:
        return None
