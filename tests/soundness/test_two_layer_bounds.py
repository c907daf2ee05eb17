"""Bounds of two layers against brute force on random tiny networks: every input inside its box's claim, always.

Listing is switched off, so that whatever is decided is decided by bounds; the checker's own bounds are held to the same
inputs.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from extract.check.answers import Model
from extract.check.boxes import BoxCheck, is_bounded
from extract.check.forward import Forward
from extract.check.program import parse
from extract.check.reader import read_network
from extract.check.slices import Slice, answering, whole_slice
from extract.check.spec import read_task
from extract.domain import Domain
from extract.lang.syntax import parse_program
from extract.lang.terms import Program
from extract.network import Network
from extract.verify import box_proof, two_layers
from extract.verify.box_proof import BoxProver, BoxResult
from extract.verify.context import Memory
from extract.verify.two_layers import ContextProver, prover_for, why_not
from tests.networks import random_network, write_gpt2, write_neutral
from tests.soundness.test_box_bounds import PROGRAMS, assert_right
from tests.unit.verify.enumeration_cases import BruteOracle, make_domain


def drawn_case(seed: int, length: int) -> tuple[Network, Domain, Program]:
    """A network of two layers, a domain of one length and a program, all drawn from a seed."""
    rng = np.random.default_rng(seed)

    def pick(*choices: Any) -> Any:
        return choices[int(rng.integers(len(choices)))]

    network = random_network(
        seed, 2, 8, pick(1, 2, 4), 5, 2 * length + 8, activation=pick("gelu_tanh", "gelu_erf", "relu", "silu"),
        spread=pick(0.1, 0.2, 0.3, 0.5), has_positions=pick(True, True, False),
    )  # fmt: skip
    kind = pick("argmax", "multilabel")
    readout: dict[str, Any] = {"kind": kind, "at": "last"}
    if pick(True, False):
        readout["choices"] = ("a", "b")
    domain = make_domain(
        alphabet=("a", "b", "c")[: pick(2, 3)], template=pick("<s> {x}", "{x}", "<s> {x} <e>"),
        promise=pick(None, {"where": "count(tokens == 'a') != count(tokens == 'b')"}),
        min_length=length, max_length=length, offsets=(0, 3), **readout,
    )  # fmt: skip
    return network, domain, parse_program(PROGRAMS[kind], "value" if kind == "argmax" else "multilabel")


@pytest.fixture(autouse=True)
def no_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (box_proof, two_layers):
        monkeypatch.setattr(module, "SMALL_WORK", 0)
        monkeypatch.setattr(module, "LISTED_WORK", 0)


def check_seed(seed: int, length: int, max_boxes: int) -> int:
    """Compare a case with brute force; return the number of inputs decided by bounds."""
    network, domain, program = drawn_case(seed, length)
    prover, oracle = prover_for(network, domain, "real", lambda: False), BruteOracle(network, domain)
    assert isinstance(prover, ContextProver)
    # few letters remembered, so that states hold several strings
    prover.memory = Memory(1 + seed % 3, (1,) if seed % 2 else ())
    n_bounded = 0
    for offset in domain.offsets:
        result = prover.prove(program, length, offset, max_boxes)
        assert isinstance(result, BoxResult)
        n_bounded += assert_right(result, domain, program, oracle)
    return n_bounded


def test_every_input_lies_in_its_boxs_claim() -> None:
    assert sum(check_seed(seed, 4, 8) for seed in range(6)) > 100


@pytest.mark.slow
def test_every_input_lies_in_its_boxs_claim_at_length() -> None:
    assert sum(check_seed(seed, 6, 40) for seed in range(100, 124)) > 5000
    assert sum(check_seed(seed, 8, 30) for seed in range(200, 203)) > 0


def spoiled(network: Network, domain: Domain, length: int, wrong: int) -> Program:
    """A program that is the model on all inputs of a length but one."""
    oracle, vocabulary = BruteOracle(network, domain), domain.vocabulary
    told = [vocabulary.name(int(c)) for c in vocabulary.output_codes[list(domain.readout.choices)]]
    entries = []
    for i, row in enumerate(domain.tokens(length, 0, domain.size_at(length))):
        said = vocabulary.name(oracle.answer_one(tuple(int(t) for t in row), 0)[0][0])
        said = next(name for name in told if name != said) if i == wrong else said
        number = sum((int(t) + 1) * 6 ** (length - 1 - p) for p, t in enumerate(row))
        entries.append(f"{number}: '{said.strip(chr(39))}'")
    digits = ", ".join(f"'{n.strip(chr(39))}': {t + 1}" for t, n in enumerate(vocabulary.names))
    text = (f"output = table(last(everywhere, horner(table(tokens, {{{digits}}}, 0), 6, 0), 0), "
            f"{{{', '.join(entries)}}}, 'a')")  # fmt: skip
    return parse_program(text, "value")


def test_one_input_that_differs_is_never_proved_away() -> None:
    n_cases = n_decided = 0
    for seed in range(10):
        network, domain, _ = drawn_case(seed, 4)
        if domain.readout.kind != "argmax":
            continue
        n_inputs = domain.size_at(4)
        program = spoiled(network, domain, 4, int(np.random.default_rng(seed).integers(n_inputs)))
        result = ContextProver(network, domain).prove(program, 4, 0, 40)
        assert isinstance(result, BoxResult)
        parts = result.tree.leaves()
        agree, disagree = sum(leaf.agree for leaf in parts), sum(leaf.disagree for leaf in parts)
        assert agree < n_inputs and disagree <= 1
        n_cases, n_decided = n_cases + 1, n_decided + agree
    assert n_cases > 3 and n_decided > 60


# -- the checker -------------------------------------------------------------------------------------------------------


def checked_case(folder: Path, seed: int) -> tuple[BoxCheck, Slice]:
    """The checker's view of a random network of two layers, and all strings of a task; odd seeds have what GPT-2
    lacks: biased logits and a scale of any sign."""
    rng = np.random.default_rng(seed)
    network = random_network(
        seed, 2, 8, int(rng.choice([1, 2, 4])), 5, 12, spread=float(rng.choice([0.1, 0.2, 0.4, 0.7])),
        activation=str(rng.choice(["gelu_tanh", "gelu_tanh", "gelu_erf", "relu", "silu"])),  # type: ignore[arg-type]
    )  # fmt: skip
    if seed % 2:
        biased = replace(network, b_U=rng.normal(0, 1, 5).astype(np.float32))
        write_neutral(biased, folder, attention_scale=-0.4)
    else:
        write_gpt2(network, folder)
    kind, template = str(rng.choice(["argmax", "multilabel"])), str(rng.choice(["<s> {x}", "{x}", "<s> {x} <e>"]))
    (folder / "spec.toml").write_text(
        'version = 1\nname = "case"\n[tokens]\nvocab = ["a", "b", "c", "<s>", "<e>"]\n[domain]\nmin_length = 5\n'
        f'max_length = 5\ntemplate = "{template}"\nalphabet = ["a", "b", "c"]\noffsets = [2]\n'
        f'[readout]\nat = "last"\nkind = "{kind}"\n'
    )
    task, lets = read_task(folder / "spec.toml", 5, [2]), parse(PROGRAMS[kind])
    model = Model(task, Forward(read_network(folder)))
    whole = whole_slice(task, answering(task, lets), 5)
    assert whole is not None and is_bounded(task, model.forward.weights)
    return BoxCheck(task, model, lets, {"length": 5, "offset": 2}, []), whole


@pytest.mark.parametrize("remote", (0, 1))
def test_the_checkers_bounds_never_confirm_what_is_false(remote: int, tmp_path: Path) -> None:
    n_confirmed = n_refused = n_false = 0
    for seed in range(remote, 12, 2):
        check, whole = checked_case(tmp_path / str(seed), seed)
        rng = np.random.default_rng(seed)
        for _ in range(4):
            part = whole
            for _ in range(int(rng.integers(2, 6))):
                letter, n, is_more = int(rng.integers(3)), int(rng.integers(5)), bool(rng.random() < 0.5)
                by_letter = rng.random() < 0.6
                part = (part.at(n, letter) if by_letter else part.counting([letter], 0, 5, n % 3, is_more)) or part
            tokens = check.task.alphabet[part.all()]
            cells, *_ = check.model.answers(tokens, 2, tokens)
            same = bool((cells == cells[0]).all())
            found = check.bounded(part, cells[0].tolist(), [int(rng.integers(1, 4)), [1] if n % 2 else []])
            assert same or not found
            n_confirmed, n_refused, n_false = n_confirmed + found, n_refused + (not found), n_false + (not same)
    assert n_confirmed > 5 and n_refused > 3 and n_false > 1


def test_a_claim_without_memory_is_not_confirmed(tmp_path: Path) -> None:
    check, whole = checked_case(tmp_path / "0", 0)
    part = whole.at(0, 0)
    for place in range(1, 5):
        assert part is not None
        part = part.at(place, 0)
    assert part is not None and part.size() == 1
    tokens = check.task.alphabet[part.all()]
    cells, *_ = check.model.answers(tokens, 2, tokens)
    assert check.bounded(part, cells[0].tolist(), [1, []])
    assert not check.bounded(part, cells[0].tolist())
    flipped, codes = cells[0].copy(), check.task.output_codes[check.task.choices]
    is_set = check.task.kind == "multilabel"
    flipped[0] = 1 - flipped[0] if is_set else next(code for code in codes if code != flipped[0])
    assert not check.bounded(part, flipped.tolist(), [1, []])


@pytest.mark.parametrize(
    ("changed", "said"),
    (
        ({"n_layers": 3}, "one layer read at one position, or two causal ones"),
        ({"norm": "none"}, "layer norms before every part"),
        ({"d_mlp": 0}, "layer norms and an MLP"),
    ),
)
def test_what_the_bounds_are_not_for_is_refused(changed: dict[str, Any], said: str) -> None:
    options: dict[str, Any] = {"n_layers": 2, **changed}
    network = random_network(1, options.pop("n_layers"), 8, 2, 5, 12, **options)
    assert said in str(why_not(network, make_domain(), "real"))
    twice = make_domain(template="{x} {x[0]}")
    assert "once, in order" in str(why_not(random_network(1, 2, 8, 2, 5, 12), twice, "real"))
    assert why_not(random_network(1, 2, 8, 2, 5, 12), make_domain(), "real") is None
    one = random_network(1, 1, 8, 2, 5, 12)
    assert isinstance(prover_for(one, make_domain(), "real", lambda: False), BoxProver)
    assert "f32-ref" in str(prover_for(one, make_domain(), "f32-ref", lambda: False))
    whole = random_network(1, 2, 8, 2, 5, 12)
    for name in ("norm_attention", "norm_mlp"):
        lacking = replace(whole, layers=(whole.layers[0], replace(whole.layers[1], **{name: None})))
        assert "layer norms before every part" in str(why_not(lacking, make_domain(), "real"))


def test_a_margin_of_zero_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    network, domain, program = drawn_case(0, 4)
    prover = prover_for(network, domain, "real", lambda: False)
    assert isinstance(prover, ContextProver)
    for least, decides in ((0.0, False), (1e-300, True)):
        margins = lambda self, tables, context, answer, least=least: (np.full(len(context.keys[-1]), least), None)  # noqa: E731
        monkeypatch.setattr(ContextProver, "least_margins", margins)
        result = prover.prove(program, 4, domain.offsets[0], 8)
        assert isinstance(result, BoxResult)
        assert any(leaf.agree + leaf.disagree > 0 for leaf in result.tree.leaves()) == decides
