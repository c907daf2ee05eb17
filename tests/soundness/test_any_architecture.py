"""Networks of every architecture against brute force in more digits: never a wrong bound, count or accepted claim.

Parts are drawn in any combination (``tests/architectures.py``), with and without positions, ties among them. The
enumeration in every arithmetic it has, the verdict, the certificate and the checker's own forward pass are all held to
one forward pass written for reading, in extended precision.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from extract.certificate_file import certificate_bytes
from extract.check.answers import Model
from extract.check.anykind import forward_of
from extract.check.check import check_certificate
from extract.check.reader import read_network
from extract.check.spec import read_task
from extract.domain import Domain, build_domain
from extract.formats import load_checkpoint
from extract.lang.interpret import answer
from extract.lang.promise import compile_promise
from extract.lang.syntax import parse_program
from extract.lang.terms import Program
from extract.model.network_oracle import NetworkOracle
from extract.network import Network
from extract.outcome import Certified, Verdict
from extract.progress import Silent
from extract.spec import load_spec
from extract.verify.care import CAREFUL, PRECISE, QUICK, Care, CareStages
from extract.verify.cells import CellFormat
from extract.verify.compare import compare, counterexamples_of, verdict
from extract.verify.enumerate import enumerate_model
from extract.verify.plain import Decided, decide_inputs
from extract.verify.stages import claims_of
from extract.vocabulary import ABSENT
from tests.architectures import drawn_parts, network_of
from tests.network_logits import logits
from tests.networks import write_neutral

N_NETWORKS, BLOCK = 300, 12
#: Blocks of the usual run: overflow, keys all hidden, and regions of differing inputs with open cells are in them.
USUAL = (84, 252)
#: What the brute force itself may be off by.
TRUTH = 1e-15
NAMES = ["a", "b", "c", "<s>"]
READOUTS: tuple[tuple[dict[str, Any], str, str], ...] = (
    ({"at": "last"}, "value", "output = last(everywhere, tokens, 'a')"),
    ({"at": "first", "choices": ["b", "a"]}, "value", "output = 'b'"),
    ({"at": "every"}, "every", "output = tokens"),
    ({"kind": "multilabel", "threshold": 0.25}, "multilabel", "output['a'] = any(tokens == 'b')\noutput['c'] = True"),
    ({"at": "generate", "stop": "c", "max_new": 2}, "step", "output = 'b' if length < prompt_length + 1 else 'c'"),
)


def blocks() -> list[Any]:
    """A few networks always, the rest with the slow tests."""
    return [pytest.param(s, marks=() if s in USUAL else pytest.mark.slow) for s in range(0, N_NETWORKS, BLOCK)]


class World:
    """A network and a task on disk, read by both readers; inputs and their exact answers."""

    def __init__(self, folder: Path, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.readout, self.adapter, self.text = READOUTS[int(rng.integers(len(READOUTS)))]
        network = network_of(drawn_parts(rng), seed)
        if rng.random() < 0.25:
            network = tied(network)
        templates = ("<s> {x}", "{x}", "{x} <s>", "<s> {x} c <s>")
        domain = {
            "alphabet": NAMES[: int(rng.integers(2, 4))], "template": templates[int(rng.integers(4))],
            "min_length": 1, "max_length": 3, "offsets": [[0], [1, 0], [2]][int(rng.integers(3))],
        }  # fmt: skip
        if self.readout.get("at") == "generate":
            domain["offsets"] = [0]
        spec = {"version": 1, "name": "x", "tokens": {"vocab": NAMES}, "domain": domain, "readout": self.readout}
        write_neutral(network, folder)
        (folder / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
        loaded = load_spec(folder / "spec.json")
        self.folder, self.digest = folder, loaded.digest
        self.domain: Domain = build_domain(loaded.spec, compile_promise)
        self.network: Network = load_checkpoint(folder).network
        self.pairs = [(n, o) for o in self.domain.offsets for n in self.domain.lengths]

    def tokens(self, length: int) -> NDArray[np.int32]:
        return self.domain.tokens(length, 0, self.domain.size_at(length))

    @cached_property
    def truth(self) -> dict[tuple[int, int], list[list[tuple[int, float, NDArray[Any]]]]]:
        """By length and offset and input: each decision's code, margin, and the exact logits it is about."""
        found = {}
        for length, offset in self.pairs:
            prompts = self.domain.render(self.tokens(length)).tolist()
            found[length, offset] = [self._decisions(prompt, length, offset) for prompt in prompts]
        return found

    def _decisions(self, prompt: list[int], length: int, offset: int) -> list[tuple[int, float, NDArray[Any]]]:
        readout, codes = self.domain.readout, self.domain.vocabulary.output_codes
        made: list[tuple[int, float, NDArray[Any]]] = []
        while True:
            with np.errstate(all="ignore"):
                rows = logits(self.network, prompt, offset, np.longdouble)
            is_generated = readout.at == "generate"
            for place in [len(prompt) - 1] if is_generated else self.domain.read_positions(length):
                row = rows[place, list(readout.choices)]
                if readout.kind == "multilabel":
                    return [(int(x > readout.threshold), float(abs(x - readout.threshold)), row) for x in row]
                best, second = np.argsort(-row, kind="stable")[:2]
                made.append((int(codes[readout.choices[best]]), float(row[best] - row[second]), row))
            if not is_generated or readout.choices[int(made[-1][2].argmax())] == readout.stop or len(made) == 2:
                return made
            prompt = [*prompt, readout.choices[int(made[-1][2].argmax())]]

    def cells(self, decisions: list[tuple[int, float, NDArray[Any]]]) -> list[int]:
        """The cells that the exact answer consists of, without what ends it."""
        stop = self.domain.readout.stop
        end = None if stop is None else int(self.domain.vocabulary.token_codes[stop])
        return [code for code, _, _ in decisions if code != end]


def tied(network: Network) -> Network:
    """The network with two of its logits always equal."""
    unembed, bias = network.W_U.copy(), network.b_U.copy()
    unembed[:, 1], bias[1] = unembed[:, 0], bias[0]
    return replace(network, W_U=unembed, b_U=bias)


def assert_right(
    world: World, decisions: list[tuple[int, float, NDArray[Any]]], cells: list[int], margin: float, bound: float,
    sure: list[bool],
) -> int:  # fmt: skip
    """Check one answer against the exact one: the cells that are sure, and the margin's distance from the true one."""
    exact = world.cells(decisions)
    readout, codes = world.domain.readout, world.domain.vocabulary.output_codes[list(world.domain.readout.choices)]
    if readout.at == "generate":
        if margin > bound:
            assert cells == exact
            assert abs(margin - min(m for _, m, _ in decisions)) <= bound + TRUTH
        return int(margin > bound)
    signed = []
    for i, cell in enumerate(cells):
        if readout.kind == "multilabel":
            away = decisions[i][2][i] - readout.threshold
            signed.append(float(away if cell else -away))
        else:
            row, own = decisions[i][2], int(np.flatnonzero(codes == cell)[0])
            signed.append(float(row[own] - np.delete(row, own).max()))
        assert not sure[i] or signed[i] > 0, "a wrong cell is sure"
    if np.isfinite(bound):
        assert abs(margin - min(signed)) <= bound + TRUTH
    return int(all(sure))


def cares(network: Network) -> list[Care]:
    kinds = {network.architecture.activation} | ({network.head.activation} if network.head else set())
    plain = [Care(np.float64, True, False), CAREFUL, QUICK]
    return plain + ([PRECISE] if "gelu_erf" not in kinds else [])


def check_bounds(world: World) -> int:
    """Hold every arithmetic of the enumeration to the truth; return how many answers were sure."""
    network, domain = world.network, world.domain
    stages, form = (
        CareStages(network, domain.readout, claims_of("real")),
        CellFormat.of(domain.readout, domain.vocabulary),
    )
    n_sure, width = 0, 2 if domain.readout.at == "generate" else 1
    for care in cares(network):
        for length, offset in world.pairs:
            with np.errstate(all="ignore"):
                part = decide_inputs(stages.evaluator(care), domain, form, world.tokens(length), offset, width)
            n_sure += sum(_right(world, part, form, i, d) for i, d in enumerate(world.truth[length, offset]))
    return n_sure


def _right(world: World, part: Decided, form: CellFormat, i: int, decisions: list[Any]) -> int:
    codes = [int(c) for c in form.decode(part.cells.T[[i]], len(part.cells))[0] if c != ABSENT]
    return assert_right(
        world, decisions, codes, float(part.margins[i]), float(part.bounds[i]), (~part.unsure[i]).tolist()
    )


def check_checker(world: World) -> int:
    """Hold the checker's own reading of the files to the same truth."""
    longest = max(world.domain.lengths)
    task = read_task(world.folder / "spec.json", longest, list(world.domain.offsets))
    model, n_sure = Model(task, forward_of(read_network(world.folder), 2.0**-53)), 0
    for length, offset in world.pairs:
        tokens = world.tokens(length)
        draft = np.full((len(tokens), model.width(length, offset)), ABSENT, np.int64)
        with np.errstate(all="ignore"):
            cells, margins, bounds, sure = model.answers(tokens, offset, draft)
        for i, decisions in enumerate(world.truth[length, offset]):
            codes = [int(c) for c in cells[i] if c != ABSENT]
            n_sure += assert_right(world, decisions, codes, float(margins[i]), float(bounds[i]), sure[i].tolist())
    return n_sure


def tally_of(world: World, program: Program) -> tuple[int, int]:
    """Count the inputs on which a program and the exact answers agree and differ; a tie is the first of equals."""
    domain, agree, differ = world.domain, 0, 0
    for length, offset in world.pairs:
        for row, decisions in zip(world.tokens(length), world.truth[length, offset], strict=True):
            codes = tuple(int(domain.vocabulary.token_codes[t]) for t in row)
            same = list(answer(program, codes, domain, domain.readout)) == world.cells(decisions)
            agree, differ = agree + same, differ + (not same)
    return agree, differ


def judged(world: World) -> tuple[Verdict, Program, bytes]:
    """Enumerate, judge the world's program, and write the certificate."""
    network, domain = world.network, world.domain
    oracle, table = NetworkOracle(network, domain), enumerate_model(network, domain, progress=Silent())
    program = parse_program(world.text, world.adapter)  # type: ignore[arg-type]
    found = verdict(program, table, domain, oracle)
    assert found.certificate is not None
    listed = counterexamples_of(program, oracle, compare(program, table, domain).first)
    data = certificate_bytes(found.certificate, domain, model=network, spec_digest=world.digest, counterexamples=listed)
    return found, program, data


def check_verdict(world: World) -> None:
    """Hold every count of a verdict to the truth, and have its certificate checked."""
    found, program, data = judged(world)
    agree, differ = tally_of(world, program)
    assert found.certificate is not None
    tally = found.certificate.tally
    assert tally.total == world.domain.size == agree + differ
    assert tally.agree <= agree and tally.disagree <= differ
    assert not isinstance(found, Certified) or agree == world.domain.size
    path = world.folder / "cert.json"
    path.write_bytes(data)
    result = check_certificate(path, world.folder, full=True)
    assert result.accepted or result.is_doubt, result.reasons


@pytest.mark.parametrize("start", blocks())
def test_no_bound_is_wrong(start: int, tmp_path: Path) -> None:
    n_sure = n_all = 0
    for seed in range(start, start + BLOCK):
        world = World(tmp_path / str(seed), seed)
        n_sure += check_bounds(world) + check_checker(world)
        n_all += (len(cares(world.network)) + 1) * world.domain.size
        check_verdict(world)
    assert n_sure > 0.5 * n_all, "bounds that are true and say nothing"
