"""Bounds over boxes against brute force on random tiny networks: every input inside its box's claim, always.

Listing is switched off, so that whatever is decided is decided by bounds; the checker's own bounds are held to the same
inputs. Networks of every architecture the bounds are for are drawn, with and without positions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from extract.check.answers import Model
from extract.check.anykind import forward_of
from extract.check.attended import Attended
from extract.check.boxes import BoxCheck, is_bounded
from extract.check.forward import DOUBLE, Forward
from extract.check.layered import Layered
from extract.check.margins import decisions
from extract.check.program import parse
from extract.check.promise import Totals
from extract.check.reader import Unreadable, read_network
from extract.check.slices import answering, whole_slice
from extract.check.spec import read_task
from extract.domain import Domain
from extract.formats.checkpoint import load_checkpoint
from extract.lang.machine import program_machine
from extract.lang.syntax import parse_program
from extract.lang.terms import Program
from extract.model.forward import Forward as PlainForward
from extract.network import Network, NormKind
from extract.verify import box_proof, two_layers
from extract.verify.affine import Affine
from extract.verify.box_proof import BoxProver, BoxResult
from extract.verify.boxes import Node, Split, leaf_of
from extract.verify.final_stage import FinalStage
from extract.verify.paths import Paths, read_paths
from tests.networks import random_network, write_gpt2, write_neutral
from tests.unit.verify.enumeration_cases import BruteOracle, make_domain

PROGRAMS = {
    "argmax": "output = 'a' if count(tokens == 'a') < count(tokens == 'b') else 'b'",
    "multilabel": "output['a'] = count(tokens == 'a') < count(tokens == 'b')\noutput['b'] = any(tokens == 'b')",
}


def drawn_case(seed: int, length: int, shortest: int | None = None) -> tuple[Network, Domain, Program, str]:
    """A network, a domain of one length (or from a shortest one on) and a program, all drawn from a seed; and the
    program's text."""
    rng = np.random.default_rng(seed)

    def pick(*choices: Any) -> Any:
        return choices[int(rng.integers(len(choices)))]

    network = random_network(
        seed, 1, 8, pick(1, 2, 4), 5, 2 * length + 8, attention=pick("causal", "bidirectional"),
        norm=pick("layernorm", "layernorm", "none"), activation=pick("gelu_tanh", "gelu_erf", "relu", "silu"),
        spread=pick(0.1, 0.3, 0.6, 1.0), has_positions=pick(True, True, False), d_mlp=0 if seed % 3 == 2 else None,
    )  # fmt: skip
    kind = pick("argmax", "multilabel")
    readout: dict[str, Any] = {"kind": kind, "at": pick("last", "last", "first")}
    if pick(True, False):
        readout["choices"] = ("a", "b")
    domain = make_domain(
        alphabet=("a", "b", "c")[: pick(2, 3)],
        template=pick("<s> {x}", "{x}", "<s> {x} <e>", "{x} {x[0]} <e>"),
        promise=pick(None, {"where": "count(tokens == 'a') != count(tokens == 'b')"}),
        min_length=length if shortest is None else shortest, max_length=length, offsets=(0, 3), **readout,
    )  # fmt: skip
    return network, domain, parse_program(PROGRAMS[kind], "value" if kind == "argmax" else "multilabel"), PROGRAMS[kind]


def paths_of(domain: Domain, program: Program, length: int) -> Paths:
    machine = program_machine(program, domain.vocabulary, domain.readout, length)
    graph = domain.graph_at(length)
    assert machine is not None and graph is not None
    answers: dict[tuple[int, ...], int] = {}
    found = read_paths(
        graph, length, machine.start(), lambda s, p, a: machine.step(s, p, domain.alphabet[a]),
        lambda s: answers.setdefault(machine.answer(s, length), len(answers)),
    )  # fmt: skip
    assert found is not None
    return found


def leaves(node: Node, paths: Paths, label: int = -1) -> Iterator[tuple[Node, Paths, int]]:
    """Every leaf with its strings and the program's answer's label, the tree's splits applied again."""
    assert node.size == paths.size
    if node.split is None:
        yield node, paths, label
        return
    parts = node.split.apply(paths)
    assert [key for key, _ in node.children] == [key for key, _ in parts]
    for (_, child), (key, part) in zip(node.children, parts, strict=True):
        if node.split.kind == "answer":
            assert set(part.labels.tolist()) == {key}
        yield from leaves(child, part, key if node.split.kind == "answer" else label)


def assert_right(result: BoxResult, domain: Domain, program: Program, oracle: BruteOracle) -> int:
    """Check every leaf against brute force; return the number of inputs decided by bounds."""
    n_bounded = total = 0
    ids, whole = np.array(domain.alphabet), paths_of(domain, program, result.length)
    for node, paths, label in leaves(result.tree, whole):
        said = result.answers[label]
        strings = paths.strings()
        total += len(strings)
        assert node.agree + node.disagree + node.undecided == len(strings)
        for string in strings[:: max(1, len(strings) - 1)].tolist():
            assert leaf_of(result.tree, whole, tuple(string)) is node
        if node.kind == "open":
            assert node.agree == node.disagree == 0
            continue
        answers = [oracle.answer_one(tuple(int(t) for t in ids[string]), result.offset) for string in strings]
        right = sum(tuple(cells) == said for cells, _ in answers)
        assert node.agree <= right and node.disagree <= len(strings) - right
        if node.kind == "listed" and not node.undecided:
            assert min(margin for _, margin in answers) == pytest.approx(node.least, abs=1e-9)
        if node.kind == "bounded":
            n_bounded += len(strings)
            assert {tuple(cells) for cells, _ in answers} == {node.model}
            assert min(margin for _, margin in answers) >= node.least - 1e-9
    assert total == domain.size_at(result.length)
    for letters in result.different:
        tokens = tuple(int(ids[a]) for a in letters)
        label = paths_of(domain, program, result.length).label_of(letters)
        assert tuple(oracle.answer_one(tokens, result.offset)[0]) != result.answers[label]
    return n_bounded


def check_seed(seed: int, length: int, max_boxes: int) -> int:
    network, domain, program, _ = drawn_case(seed, length)
    prover, oracle = BoxProver(network, domain), BruteOracle(network, domain)
    n_bounded = 0
    for offset in domain.offsets:
        result = prover.prove(program, length, offset, max_boxes)
        assert isinstance(result, BoxResult)
        n_bounded += assert_right(result, domain, program, oracle)
    return n_bounded


@pytest.fixture
def no_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(box_proof, "SMALL_WORK", 0)
    monkeypatch.setattr(box_proof, "LISTED_WORK", 0)


@pytest.mark.usefixtures("no_lists")
def test_every_input_lies_in_its_boxs_claim() -> None:
    assert sum(check_seed(seed, 4, 12) for seed in range(16)) > 400


def test_lists_and_bounds_together() -> None:
    for seed in range(100, 106):
        check_seed(seed, 5, 40)


@pytest.mark.slow
@pytest.mark.usefixtures("no_lists")
def test_every_input_lies_in_its_boxs_claim_on_many_networks() -> None:
    assert sum(check_seed(seed, 3 + seed % 4, 20) for seed in range(1000, 1300)) > 20_000


def test_a_bound_holds_whatever_its_sign() -> None:
    """Bounds that decide nothing are still bounds: over whole lengths, cut or not."""
    for seed in range(30, 60):
        network, domain, program, _ = drawn_case(seed, 4)
        prover, oracle = BoxProver(network, domain), BruteOracle(network, domain)
        run = prover._run(4, 0, ((0,),))
        whole = paths_of(domain, program, 4)
        query = run.query_letter
        parts = [whole] if query is None else [part for _, part in Split("at", start=query).apply(whole)]
        for part in parts:
            strings = part.strings()
            with np.errstate(all="ignore"):
                below, cell, _, _ = prover._bounds(run, part, prover._sums(run, part))
            rows = [oracle.answer_one(tuple(domain.alphabet[a] for a in s), 0) for s in strings.tolist()]
            for answer in {tuple(cells) for cells, _ in rows}:
                codes = domain.vocabulary.output_codes[list(domain.readout.choices)].tolist()
                inside = answer if domain.readout.kind == "multilabel" else (codes.index(answer[0]),)
                margins = [margin if tuple(cells) == answer else 0.0 for cells, margin in rows]
                for max_cells in (1, 6):
                    with np.errstate(all="ignore"):
                        least = prover.final.least(cell, inside, max_cells, below)[0]
                    assert least <= min(margins) + 1e-9


def test_one_input_that_differs_is_never_proved_away() -> None:
    """A program that is the model but for one input, as a table of numbered strings."""
    for seed in range(40):
        network, domain, _, _ = drawn_case(seed, 4)
        if domain.readout.kind != "argmax":
            continue
        oracle, prover = BruteOracle(network, domain), BoxProver(network, domain)
        names, entries = domain.vocabulary, []
        rows = [tuple(int(t) for t in row) for row in domain.tokens(4, 0, domain.size_at(4))]
        wrong = int(np.random.default_rng(seed).integers(len(rows)))
        for i, row in enumerate(rows):
            number = sum((t + 1) * 6 ** (3 - p) for p, t in enumerate(row))
            told = [names.name(int(c)) for c in names.output_codes[list(domain.readout.choices)]]
            said = names.name(oracle.answer_one(row, 0)[0][0])
            entries.append(
                f"{number}: {next(n for n in told if n != said) if i == wrong else said!r}".replace("''", "'")
            )
        entries = [e if "'" in e else e.replace(": ", ": '") + "'" for e in entries]
        digits = ", ".join(f"{n!r}: {t + 1}" for t, n in enumerate(names.names))
        text = (f"output = table(last(everywhere, horner(table(tokens, {{{digits}}}, 0), 6, 0), 0), "
                f"{{{', '.join(entries)}}}, 'a')")  # fmt: skip
        result = prover.prove(parse_program(text, "value"), 4, 0)
        assert isinstance(result, BoxResult)
        parts = result.tree.leaves()
        assert sum(leaf.agree for leaf in parts) < len(rows)
        assert sum(leaf.disagree for leaf in parts) <= 1


#: Architectures that are GPT-2's but for something.
LACKING: dict[str, dict[str, Any]] = {
    "bidirectional": {"attention": "bidirectional"},
    "no norms": {"norm": "none"},
    "no MLP": {"d_mlp": 0},
    "bidirectional attention alone": {"attention": "bidirectional", "norm": "none", "d_mlp": 0},
}


def checked_case(folder: Path, seed: int, layout: str = "gpt2") -> tuple[BoxCheck, Totals, int]:
    """The checker's view of a random network and a task, one entry of boxes at hand; all but ``gpt2`` ones have what
    GPT-2 lacks: biased logits, a scale of any sign, and what ``LACKING`` says; ``large mean`` ones that too."""
    rng = np.random.default_rng(seed)
    network = random_network(
        seed, 1, 8, int(rng.choice([1, 2, 4])), 5, 12, spread=float(rng.choice([0.1, 0.3, 0.6, 1.0])),
        activation=str(rng.choice(["gelu_tanh", "gelu_erf", "relu", "silu"])),  # type: ignore[arg-type]
        **LACKING.get(layout, {}),
    )  # fmt: skip
    if layout == "large mean":  # norms take it off, but computed vectors are as far from real ones as it is large
        network = replace(network, embed=network.embed + np.float32(300))
    if layout == "gpt2":
        write_gpt2(network, folder)
    else:
        write_neutral(replace(network, b_U=rng.normal(0, 3, 5).astype(np.float32)), folder, attention_scale=-0.4)
    kind = str(rng.choice(["argmax", "multilabel"]))
    template = str(rng.choice(["<s> {x}", "{x}", "{x} {x[0]} <e>"]))
    text = (
        'version = 1\nname = "case"\n[tokens]\nvocab = ["a", "b", "c", "<s>", "<e>"]\n[domain]\nmin_length = 5\n'
        f'max_length = 5\ntemplate = "{template}"\nalphabet = ["a", "b", "c"]\noffsets = [2]\n'
        f'[readout]\nat = "{rng.choice(["last", "first"])}"\nkind = "{kind}"\n'
    )
    (folder / "spec.toml").write_text(text)
    task = read_task(folder / "spec.toml", 5, [2])
    lets = parse(PROGRAMS[kind])
    entry = {"length": 5, "offset": 2}
    check = BoxCheck(task, Model(task, forward_of(read_network(folder), DOUBLE)), lets, entry, [])
    return check, answering(task, lets), 5


@pytest.mark.parametrize("layout", ("gpt2", "neutral", *LACKING))
def test_the_checkers_bounds_never_confirm_what_is_false(layout: str, tmp_path: Path) -> None:
    n_confirmed, n_refused = confirmed(tmp_path, layout, range(5 if layout in LACKING else 16))
    assert n_confirmed > 4 and n_refused > 4


@pytest.mark.slow
@pytest.mark.parametrize("layout", LACKING)
def test_the_checkers_bounds_never_confirm_what_is_false_on_many_networks(layout: str, tmp_path: Path) -> None:
    n_confirmed, n_refused = confirmed(tmp_path, layout, range(100, 150))
    assert n_confirmed > 40 and n_refused > 20


def confirmed(folder: Path, layout: str, seeds: range) -> tuple[int, int]:
    """Hold the checker's bounds over random slices to every string of them; count what they confirm and do not."""
    n_confirmed = n_refused = 0
    for seed in seeds:
        check, program, length = checked_case(folder / str(seed), seed, layout)
        rng = np.random.default_rng(seed)
        whole = whole_slice(check.task, program, length)
        assert whole is not None
        for _ in range(4):
            part = whole
            for _ in range(int(rng.integers(1, 4))):
                letter, n, is_more = int(rng.integers(3)), int(rng.integers(length)), bool(rng.random() < 0.5)
                by_letter = rng.random() < 0.6
                part = (part.at(n, letter) if by_letter else part.counting([letter], 0, 5, n % 3, is_more)) or part
            tokens = check.task.alphabet[part.all()]
            cells, _, _, _ = check.model.answers(tokens, 2, tokens)
            same = bool((cells == cells[0]).all())
            try:
                found = check.bounded(part, cells[0].tolist())
            except Unreadable:
                found = False
            assert same or not found
            n_confirmed, n_refused = n_confirmed + found, n_refused + (not found)
            assert part.size() == len(tokens)
    return n_confirmed, n_refused


def test_what_the_bounds_are_not_for_is_refused(tmp_path: Path) -> None:
    """Where a part is not GPT-2's neither side offers bounds, and the checker takes none."""
    whole = checked_case(tmp_path / "whole", 1, "neutral")[0]
    assert is_bounded(whole.task, whole.model.forward.weights)
    for layout, lacking in LACKING.items():
        network = random_network(1, 1, 8, 2, 5, 12, **lacking)
        assert is_bounded(whole.task, read_network(write_neutral(network, tmp_path / layout)))
        assert box_proof.refusal(network, make_domain(), "real") is None
        two = random_network(1, 2, 8, 2, 5, 12, **lacking)
        assert not is_bounded(whole.task, read_network(write_neutral(two, tmp_path / f"two {layout}")))
        assert two_layers.why_not(two, make_domain(), "real") is not None
    plain = random_network(1, 1, 8, 2, 5, 12, norm="none")
    mixed = replace(plain.architecture, softmax_share=0.5, attention="bidirectional")
    network = replace(plain, architecture=mixed)
    assert not is_bounded(whole.task, read_network(write_neutral(network, tmp_path / "mixed")))
    assert box_proof.refusal(network, make_domain(), "real") == "bounds are not for mixed attention"


def test_what_bounds_give_up_on_is_not_confirmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where weights vanish or states are too many nothing is known, and nothing confirmed."""
    check, program, length = checked_case(tmp_path, 0)
    whole = whole_slice(check.task, program, length)
    assert whole is not None

    def give_up(*_: Any) -> Any:
        raise Unreadable("nothing is known")

    monkeypatch.setattr(Attended, "over", give_up)
    monkeypatch.setattr(Layered, "bounded", give_up)
    monkeypatch.setattr(Layered, "__init__", lambda *_: None)
    answer = [1] * len(check.task.choices)
    check.task.kind == "multilabel" or answer.__setitem__(slice(None), [int(check.task.output_codes[0])])
    assert not check.bounded(whole, answer)
    assert not check._bounded_by_states(whole, answer, [1, []])


@pytest.mark.parametrize("seed", range(6))
def test_decisions_are_differences_and_what_they_are_made_of(seed: int, tmp_path: Path) -> None:
    """Both sides: columns whose products must be positive, each entry's operands bounded, and the shift."""
    check, _, _ = checked_case(tmp_path, seed, "neutral")
    task, w = check.task, check.model.forward.weights
    chosen, bias = w.W_U[:, task.choices], w.b_U[task.choices]
    is_set = task.kind == "multilabel"
    domain = make_domain(kind=task.kind, threshold=0.0) if is_set else make_domain()
    ours = FinalStage(load_checkpoint(tmp_path).network, domain.readout)
    n = len(task.choices)
    for own in range(n):
        labels = [int(i % 2 == own % 2) for i in range(n)]
        columns, sizes, shift = decisions(task, w, labels if is_set else [int(task.output_codes[task.choices[own]])])
        others = [i for i in range(n) if i != own]
        signs = np.where(np.array(labels) > 0, 1.0, -1.0)
        assert (columns == (chosen * signs if is_set else chosen[:, [own]] - chosen[:, others])).all()
        assert (shift == ((bias - task.threshold) * signs if is_set else bias[own] - bias[others])).all()
        parts = np.abs(chosen) if is_set else np.abs(chosen[:, [own]]) + np.abs(chosen[:, others])
        assert (sizes >= parts).all()
        made = ours.decisions(tuple(labels) if is_set else (own,))
        gain = np.abs(w.norm_final[0]) if w.norm_final is not None else np.ones(len(chosen))
        assert (parts * gain[:, None] <= made.sizes.T).all() and (made.slips > 0).all()


def test_what_the_checker_evaluates_by_prefixes_is_causal(tmp_path: Path) -> None:
    network = random_network(1, 1, 8, 2, 5, 12, attention="bidirectional")
    forward = Forward(read_network(write_neutral(network, tmp_path)))
    with pytest.raises(ValueError, match="causal"):
        forward.logits(np.zeros((1, 3), np.int32), 0, 0)


@pytest.mark.parametrize("norm", ["layernorm", "none"])
def test_margins_decided_are_above_what_counts_as_a_tie(norm: NormKind) -> None:
    """The width of a tie is a share of the largest logit, one of a bound of all logits; it is taken off in one place,
    the final stage, whatever the network's norms, so that what is positive there is decided."""
    for seed in range(6):
        network = random_network(seed, 1, 8, 2, 5, 12, tied=False, norm=norm)
        network = replace(network, W_U=network.W_U * np.float32(1000))
        domain = make_domain(min_length=4, max_length=4)
        prompts = domain.render(domain.tokens(4, 0, domain.size_at(4))).astype(np.int64)
        logits = PlainForward(network).logits(torch.from_numpy(prompts), 0, domain.read_positions(4))
        final, rng = BoxProver(network, domain).final, np.random.default_rng(seed)
        x = rng.normal(0, 1, 8)
        for vector in (x, 30 * x):
            form = Affine(vector, np.zeros((8, 1)), np.zeros(8))
            steps = final._mlp.steps(form)
            width = float(final._tied(steps.after))
            if norm == "layernorm":
                assert width >= 4 * network.tie * float(logits.abs().max()) > 4 * network.tie
            else:
                top = float(np.abs(steps.after.centre @ network.W_U.astype(np.float64)).max())
                assert width >= 4 * network.tie * max(top, 1.0)
            found = final.bound(form, (0,))
            margins = found.form.centre - found.form.reach
            assert (found.least <= margins - width * (1 - 1e-9)).all()
            assert (found.least >= margins - width * (1 + 1e-6) - 1e-9 * np.abs(margins)).all()
