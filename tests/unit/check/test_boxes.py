"""Trees of boxes told right and wrong: what the checker counts, against a model whose every answer is laid down."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from extract.check import boxes
from extract.check.answers import Model
from extract.check.boxes import BoxCheck
from extract.check.forward import Forward
from extract.check.program import parse
from extract.check.reader import Unreadable, read_network
from extract.check.slices import Slice, answering, whole_slice
from extract.check.spec import Task, read_task
from tests.networks import random_network, write_gpt2

LENGTH, OFFSET = 3, 2
PROGRAM = "output = 'a' if count(tokens == 'a') < count(tokens == 'b') else 'b'"
MALFORMED = (KeyError, TypeError, ValueError, IndexError)


class Laid:
    """A model whose cells, margins and bounds are drawn per input; of a hundredth the margin is within the bound."""

    def __init__(self, task: Task, forward: Forward, program: dict[tuple[int, ...], list[int]], seed: int) -> None:
        self.model, rng = Model(task, forward), np.random.default_rng(seed)
        codes = task.output_codes[task.choices][:2]
        self.said: dict[tuple[int, ...], tuple[int, float, float]] = {}
        for letters, (own,) in program.items():
            code = int(own if rng.random() < 0.7 else rng.choice(codes))
            kind = rng.random()
            margin = 0.5 + rng.random() if kind < 0.7 else 2e-7 if kind < 0.8 else 1e-9
            self.said[letters] = code, margin, 1e-8
        letter = {int(t): i for i, t in enumerate(task.alphabet)}

        def answers(tokens: Any, offset: int, draft: Any) -> Any:
            assert offset == OFFSET
            rows = [self.said[tuple(letter[int(t)] for t in row)] for row in tokens]
            cells, margin, bound = (np.array(column) for column in zip(*rows, strict=True))
            return cells[:, None], margin, bound, (margin > bound)[:, None]

        self.model.answers = answers  # type: ignore[method-assign]


class Case:
    """A task, the checker's slice of all strings, what program and model say of each, and a right tree."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        write_gpt2(random_network(1, 1, 8, 2, 5, 12), folder)
        (folder / "spec.toml").write_text(
            'version = 1\nname = "case"\n[tokens]\nvocab = ["a", "b", "c", "<s>", "<e>"]\n[domain]\nmin_length = 3\n'
            f'max_length = 3\ntemplate = "<s> {{x}}"\nalphabet = ["a", "b", "c"]\noffsets = [{OFFSET}]\n'
            '[readout]\nat = "last"\nkind = "argmax"\nchoices = ["a", "b", "c"]\n'
        )
        self.task, self.lets = read_task(folder / "spec.toml", LENGTH, [OFFSET]), parse(PROGRAM)
        whole = whole_slice(self.task, answering(self.task, self.lets), LENGTH)
        assert whole is not None
        self.whole = whole
        program = {}
        for row in whole.all().tolist():
            state = 0
            for table, letter in zip(whole.edges, row, strict=True):
                state = int(table[state, letter])
            program[tuple(row)] = whole.labels[state].tolist()
        self.program = program
        self.laid = Laid(self.task, Forward(read_network(folder)), program, seed)

    def counts(self, part: Slice) -> list[Any]:
        """The numbers of inputs that agree and that differ for certain, and the least margin of these."""
        agree = differ = 0
        least = math.inf
        for row in part.all().tolist():
            cell, margin, bound = self.laid.said[tuple(row)]
            if margin > bound:
                agree, differ = (
                    agree + (cell == self.program[tuple(row)][0]),
                    differ + (cell != self.program[tuple(row)][0]),
                )
                least = min(least, margin)
        return [agree, differ, least if least < math.inf else None]

    def leaf(self, part: Slice) -> list[Any]:
        return ["l", str(part.size()), *self.counts(part)]

    def name(self, code: int) -> str:
        return self.task.name(code)

    def entry(self, tree: list[Any], agree: int, disagree: int, least: Any, witnesses: Any = ()) -> dict[str, Any]:
        counts = (agree, disagree, 27 - agree - disagree)
        return {
            "length": LENGTH, "offset": OFFSET, "tree": json.dumps(tree), "witnesses": list(witnesses),
            **dict(zip(("agree", "disagree", "undecided"), map(str, counts), strict=True)), "min_margin": least,
        }  # fmt: skip

    def tree(self) -> list[Any]:
        """Split by the program's answer, then by a letter, and by how often one occurs."""
        found: list[Any] = ["a"]
        for code in self.answers():
            part = self.whole.answering([code])
            assert part is not None
            node: list[Any] = ["p", 1]
            for letter in range(3):
                inside = part.at(1, letter)
                if inside is None:
                    continue
                child: list[Any] = ["c", ["a", "c"], 0, 2, 1]
                for side in (0, 1):
                    piece = inside.counting([0, 2], 0, 2, 1, bool(side))
                    if piece is not None:
                        child.append([side, self.leaf(piece)])
                node.append(["abc"[letter], child])
            found.append([[self.name(code)], node])
        return found

    def answers(self) -> list[int]:
        return sorted({cells[0] for cells in self.program.values()})

    def right(self) -> dict[str, Any]:
        agree, differ, least = self.counts(self.whole)
        return self.entry(self.tree(), agree, differ, least)

    def reasons(self, entry: dict[str, Any]) -> list[str]:
        check = BoxCheck(self.task, self.laid.model, self.lets, entry, [])
        check.run()
        assert not check.unproved
        return check.reasons

    def is_refused(self, entry: dict[str, Any]) -> bool:
        try:
            return bool(self.reasons(entry))
        except (*MALFORMED, Unreadable):
            return True


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def leaves(node: list[Any]) -> list[list[Any]]:
    if node[0] in "lbo":
        return [node]
    return [leaf for _, child in node[{"a": 1, "p": 2, "c": 5, "e": 3}[node[0]] :] for leaf in leaves(child)]


def edited(case: Case, edit: Any) -> dict[str, Any]:
    """The right entry with its tree edited."""
    entry = case.right()
    tree = json.loads(entry["tree"])
    edit(tree)
    return {**entry, "tree": json.dumps(tree)}


@pytest.mark.parametrize("seed", range(4))
def test_what_is_told_right_is_accepted(seed: int, tmp_path: Path) -> None:
    case = Case(tmp_path, seed)
    agree, differ, _ = case.counts(case.whole)
    assert agree > 5 and differ > 0 and agree + differ < 27
    assert case.reasons(case.right()) == []


@pytest.mark.parametrize("seed", range(3))
def test_a_listed_leaf_is_held_to_every_input(seed: int, tmp_path: Path) -> None:
    """Counts may be lower where a margin is within a thousand bounds or so, and nowhere else, and never higher."""
    case = Case(tmp_path, seed)
    tree = case.tree()
    sizes = [len(leaves(tree)), 0]
    for i in range(sizes[0]):
        found = leaves(tree)[i]
        size, (_, _, agree, differ, least) = int(found[1]), found
        part = leaf_slice(case, i)
        near = sum(not case.laid.said[tuple(row)][1] > 1e-6 + 1000 * 1e-8 for row in part.all().tolist())
        assert part.size() == size
        for more, other in ((0, 0), (1, 0), (0, 1), (-1, 0), (0, -1), (-1, 1), (1, -1), (-size, -size), (-1, -1)):
            told = [agree + more, differ + other]
            fits = 0 <= told[0] <= agree and 0 <= told[1] <= differ and 0 <= size - sum(told) <= near
            fits = fits and (least is None or sum(told) > 0)
            changed = copy.deepcopy(tree)
            leaves(changed)[i][2:4] = told
            rows = [leaf[2:] for leaf in leaves(changed)]
            margins = [row[2] for row in rows if row[2] is not None]
            entry = case.entry(changed, sum(r[0] for r in rows), sum(r[1] for r in rows), min(margins))
            assert case.is_refused(entry) != fits, (told, agree, differ, size, near)
            sizes[1] += fits
    assert sizes[1] > sizes[0]


def leaf_slice(case: Case, index: int) -> Slice:
    found = list[Slice]()
    for code in case.answers():
        part = case.whole.answering([code])
        for letter in range(3):
            inside = part.at(1, letter) if part else None
            for side in (False, True):
                piece = inside.counting([0, 2], 0, 2, 1, side) if inside else None
                found += [piece] if piece else []
    return found[index]


@pytest.mark.parametrize("told", (0.0, -0.1, 1e9, None, 1, "0.5", math.nan, True))
def test_a_listed_leafs_least_margin_is_one(case: Case, told: Any) -> None:
    entry = edited(case, lambda tree: leaves(tree)[0].__setitem__(4, told))
    leaf = leaves(json.loads(entry["tree"]))[0]
    entry["min_margin"] = told if leaf[2] + leaf[3] else entry["min_margin"]
    assert case.is_refused(entry)


def test_a_least_margin_is_told_to_a_millionth(case: Case) -> None:
    place = next(i for i, leaf in enumerate(leaves(case.tree())) if leaf[4] is not None and leaf[4] > 0.1)
    exact = leaves(case.tree())[place][4]
    for factor, fits in ((1 + 5e-7, True), (1 + 2e-6, False), (0.5, True)):
        entry = edited(case, lambda tree, told=exact * factor: leaves(tree)[place].__setitem__(4, told))
        entry["min_margin"] = min(leaf[4] for leaf in leaves(json.loads(entry["tree"])) if leaf[4] is not None)
        assert case.is_refused(entry) != fits


def swap(node: list[Any], i: int, j: int) -> None:
    node[i][0], node[j][0] = node[j][0], node[i][0]


EDITS: dict[str, Any] = {
    "a size": lambda t: leaves(t)[0].__setitem__(1, str(int(leaves(t)[0][1]) + 1)),
    "a size that is a number": lambda t: leaves(t)[0].__setitem__(1, int(leaves(t)[0][1])),
    "counts that are fractions": lambda t: leaves(t)[0].__setitem__(2, float(leaves(t)[0][2])),
    "counts that are yes or no": lambda t: leaves(t)[0].__setitem__(3, bool(leaves(t)[0][3])),
    "no answers": lambda t: t.__setitem__(slice(None), t[1][1]),
    "an answer less": lambda t: t.pop(),
    "an answer twice": lambda t: t.append(copy.deepcopy(t[1])),
    "an answer for the other": lambda t: t.__setitem__(2, copy.deepcopy(t[1])),
    "answers swapped": lambda t: swap(t, 1, 2),
    "an answer that is none": lambda t: t[1].__setitem__(0, ["c"]),
    "a letter less": lambda t: t[1][1].pop(),
    "a letter twice": lambda t: t[1][1].append(copy.deepcopy(t[1][1][-1])),
    "letters swapped": lambda t: swap(t[1][1], 2, 3),
    "a letter that is none": lambda t: t[1][1][2].__setitem__(0, "<s>"),
    "another position": lambda t: t[1][1].__setitem__(1, 0),
    "a position beyond": lambda t: t[1][1].__setitem__(1, 3),
    "a count less": lambda t: _count(t).pop(),
    "sides swapped": lambda t: swap(_count(t), 5, 6),
    "a side that is none": lambda t: _count(t)[5].__setitem__(0, 2),
    "a side that is true": lambda t: _count(t)[6].__setitem__(0, True),
    "a side twice": lambda t: _count(t).append(copy.deepcopy(_count(t)[5])),
    "counted letters": lambda t: _count(t).__setitem__(1, ["b"]),
    "a counted letter that is none": lambda t: _count(t).__setitem__(1, ["a", "<e>"]),
    "another start": lambda t: _count(t).__setitem__(2, 1),
    "a start before": lambda t: _count(t).__setitem__(2, -1),
    "an end beyond": lambda t: _count(t).__setitem__(3, LENGTH + 1),
    "nothing counted": lambda t: _count(t).__setitem__(3, 0),
    "another cut": lambda t: _count(t).__setitem__(4, 0),
    "a cut before": lambda t: _count(t).__setitem__(4, -1),
    "a cut beyond": lambda t: _count(t).__setitem__(4, LENGTH + 1),
    "a cut that is a fraction": lambda t: _count(t).__setitem__(4, 1.0),
    "a kind that is none": lambda t: leaves(t)[0].__setitem__(0, "x"),
    "an open leaf": lambda t: leaves(t)[0].__setitem__(slice(None), ["o", leaves(t)[0][1]]),
}  # fmt: skip


def _count(tree: list[Any]) -> list[Any]:
    """The first split by counts that has two sides."""
    return next(child for _, node in tree[1:] for _, child in node[2:] if len(child) == 7)


@pytest.mark.parametrize("what", EDITS)
def test_what_is_told_wrong_is_rejected(what: str, case: Case) -> None:
    assert case.is_refused(edited(case, EDITS[what]))


@pytest.mark.parametrize("what", ("agree", "disagree", "undecided"))
def test_the_entrys_own_numbers_are_those_of_its_leaves(what: str, case: Case) -> None:
    entry = case.right()
    assert case.is_refused({**entry, what: str(int(entry[what]) + 1)})
    assert case.is_refused({**entry, "min_margin": entry["min_margin"] / 2})
    assert case.is_refused({**entry, "min_margin": None})


def witnesses(case: Case, wanted: bool) -> list[list[str]]:
    """Inputs that differ for certain, or all others."""
    found = []
    for row, (cell, margin, bound) in case.laid.said.items():
        if (cell != case.program[row][0] and margin > bound) == wanted:
            found.append(["abc"[a] for a in row])
    return found


def test_witnesses_of_open_leaves_are_counted_once(case: Case) -> None:
    whole = ["a", *([[case.name(code)], ["o", str(case.whole.answering([code]).size())]] for code in case.answers())]  # type: ignore[union-attr]
    different, others = witnesses(case, True), witnesses(case, False)
    entry = case.entry(whole, 0, len(different), None, different)
    assert case.reasons(entry) == []
    assert case.is_refused(case.entry(whole, 0, len(different) + 1, None, different))
    assert case.is_refused(case.entry(whole, 0, 1 + len(different), None, [*different, different[0]]))
    assert case.is_refused(case.entry(whole, 0, len(different), None, [*different, different[0]]))
    for other in others:
        assert case.is_refused(case.entry(whole, 0, 1, None, [other])), other
    for bad in (["a"], ["a"] * 4, ["a", "b", "<s>"], ["a", "b", "x"], []):
        assert case.is_refused(case.entry(whole, 0, 0, None, [bad]))
        assert case.is_refused(case.entry(whole, 0, 1, None, [bad]))
    # those of a listed leaf are counted there already
    right = case.right()
    assert case.reasons({**right, "witnesses": different}) == []


def test_trees_without_end_are_refused(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_MOST_NODES", 5), ("_DEEPEST", 2), ("_MOST_LISTED", 1)):
        with monkeypatch.context() as patch:
            patch.setattr(boxes, name, value)
            with pytest.raises(Unreadable):
                case.reasons(case.right())


def bounded_entry(case: Case, least: Any = 0.5, answer: str | None = None, **changed: Any) -> dict[str, Any]:
    """One bounded leaf for each answer of the program."""
    tree: list[Any] = ["a"]
    for code in case.answers():
        part = case.whole.answering([code])
        assert part is not None
        tree.append([[case.name(code)], ["b", str(part.size()), least, [answer or case.name(code)]]])
    agree = sum(answer in (None, case.name(cells[0])) for cells in case.program.values())
    return {**case.entry(tree, agree, 27 - agree, least), **changed}


def test_a_bounded_leaf_is_held_to_inputs_drawn_from_it(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoxCheck, "bounded", lambda *_: True)
    case.laid.said = {row: (cells[0], 0.7, 1e-8) for row, cells in case.program.items()}
    assert case.reasons(bounded_entry(case)) == []
    assert case.reasons(bounded_entry(case, 0.7)) == []
    for wrong in (0.0, -0.5, 0.7 + 1e-6, 1, None, "0.5"):
        assert case.is_refused(bounded_entry(case, wrong)), wrong
    assert case.is_refused(bounded_entry(case, 0.5, "a"))
    case.laid.said = {row: (case.answers()[0], 0.7, 1e-8) for row in case.program}
    name = case.name(case.answers()[0])
    assert case.reasons(bounded_entry(case, 0.5, name)) == []
    assert case.is_refused(bounded_entry(case, 0.5, name, agree="27", disagree="0"))


def test_what_our_bounds_do_not_confirm_is_named(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoxCheck, "bounded", lambda *_: False)
    case.laid.said = {row: (cells[0], 0.7, 1e-8) for row, cells in case.program.items()}
    check = BoxCheck(case.task, case.laid.model, case.lets, bounded_entry(case), [])
    check.run()
    assert not check.reasons and len(check.unproved) == check.n_leaves == 2


def test_leaves_stand_below_the_programs_answers(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without them nothing could agree, and everything sure would be said to differ."""
    monkeypatch.setattr(BoxCheck, "bounded", lambda *_: True)
    agree, differ, least = case.counts(case.whole)
    sure = agree + differ
    assert case.is_refused(case.entry(["l", "27", 0, sure, least], 0, sure, least))
    assert case.is_refused(case.entry(["l", "27", agree, differ, least], agree, differ, least))
    assert case.is_refused(case.entry(["o", "27"], 0, 0, None))
    code = case.answers()[0]
    case.laid.said = {row: (code, 0.7, 1e-8) for row in case.program}
    assert case.is_refused(case.entry(["b", "27", 0.5, [case.name(code)]], 0, 27, 0.5))


def test_which_tasks_and_networks_have_bounds(case: Case, tmp_path: Path) -> None:
    for n_layers, fits in ((1, True), (2, True), (3, False)):
        weights = read_network(write_gpt2(random_network(1, n_layers, 8, 2, 5, 12), tmp_path / str(n_layers)))
        for at in ("last", "first", "every", "generate"):
            task = copy.copy(case.task)
            object.__setattr__(task, "at", at)
            is_read = at == "last" or (at == "first" and n_layers == 1)
            assert boxes.is_bounded(task, weights) == (fits and is_read), (n_layers, at)
        for changed in ({"choices": case.task.choices[:1]}, {"kind": "value"}):
            task = copy.copy(case.task)
            for name, value in changed.items():
                object.__setattr__(task, name, value)
            assert not boxes.is_bounded(task, weights)
