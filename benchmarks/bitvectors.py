"""Enumeration and if-then-else side by side with cvc5's, in CPU seconds, on the core that the search itself grows on.

First table: the terms of one 8-bit grammar {x, y, z, 0, 1, +, -, &, |, ^, ~} with up to 4 operators, one per class of
equal values on 16 examples. cvc5 is given those examples with outputs that no such term gives, so that it exhausts
every size; counted are the terms it hands to its checker (``-o sygus``), one per class there too. Both counts must
be equal. cvc5 is timed in a run that prints nothing. Second table: tasks whose solution is a tree of if-then-else over
{variables, 0, 1, +, -, ite, <=, =, and, or, not} on 32 examples; cvc5's time is the best of three of its strategies,
and both answers are checked on all examples. Nothing here is imported by the tool; cvc5 is an optional extra.

    python benchmarks/bitvectors.py [--operators 4] [--no-cvc5] [--only enumeration|choices]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from numpy.typing import NDArray

from extract.search.classes import Classes, Provenance
from extract.search.crossing import Crossing
from extract.search.hashing import hash_weights, hash_words, to_words
from extract.search.unify import Leaf, Split, Tree, decision_tree, tree_values

Array = NDArray[Any]
N_EXAMPLES = 16
#: CPU seconds after which a cvc5 run is stopped and reported as a lower bound.
CVC5_LIMIT = 300
REPETITIONS = 3


@dataclass(frozen=True)
class Binary:
    """A binary operator: SMT-LIB name, numpy function, whether it commutes and whether it works on whole words."""

    name: str
    function: Callable[..., Any]
    commutes: bool = True
    on_words: bool = False


BITVECTORS = (
    Binary("bvadd", np.add),
    Binary("bvsub", np.subtract, commutes=False),
    Binary("bvand", np.bitwise_and, on_words=True),
    Binary("bvor", np.bitwise_or, on_words=True),
    Binary("bvxor", np.bitwise_xor, on_words=True),
)
INTEGERS = (Binary("+", np.add), Binary("-", np.subtract, commutes=False))


class Terms:
    """The terms of a grammar with one sort, level by level: level k has k operators."""

    def __init__(self, leaves: dict[str, Array], operators: tuple[Binary, ...], *, complement: bool = False) -> None:
        self.names = tuple(leaves)
        rows = np.stack(list(leaves.values()))
        self.dtype, self.n_cells = rows.dtype, rows.shape[1]
        self.operators, self.complement = operators, complement
        self.provenance = Provenance()
        words = to_words(rows)
        self.classes = Classes(words.shape[1])
        self.weights = hash_weights(words.shape[1])
        self.n_candidates = 0
        word = np.dtype(np.uint64)
        self._on_cells = Crossing(self.n_cells, self.dtype, self.dtype, self.weights)
        self._on_words = Crossing(words.shape[1], word, word, self.weights)
        for i, name in enumerate(self.names):
            row = words[i : i + 1]
            self._offer(row, hash_words(row, self.weights), name, (), 0, keep=True)

    def grow(self, level: int, *, keep: bool = True) -> None:
        """Add every term with this many operators; their values need not be kept when no larger ones will follow."""
        if self.complement:
            ids, words = self._level(level - 1)
            flipped = ~words
            self._offer(flipped, hash_words(flipped, self.weights), "bvnot", (ids,), level, keep=keep)
        for left_level in range(level):
            left_ids, left = self._level(left_level)
            right_ids, right = self._level(level - 1 - left_level)
            for operator in self.operators:
                if operator.commutes and left_level > level - 1 - left_level:
                    continue
                crossing = self._on_words if operator.on_words else self._on_cells
                dtype = np.dtype(np.uint64) if operator.on_words else self.dtype
                sides = (side if operator.on_words else side.view(dtype)[:, : self.n_cells] for side in (left, right))
                symmetric = operator.commutes and 2 * left_level == level - 1
                for block in crossing.blocks(operator.function, *sides, is_symmetric=symmetric):
                    pairs = (left_ids, block.left), (right_ids, block.right)
                    self._offer(block.words, block.hashes, operator.name, pairs, level, keep=keep)

    def values(self) -> Array:
        """Return the values of all terms, cheapest first. Shape: [term, example]."""
        return self.classes.held(0, self.classes.n).view(self.dtype)[:, : self.n_cells]

    def levels(self) -> NDArray[np.int32]:
        """Return the number of operators of each term."""
        return self.provenance.costs(self.classes.ids)

    def text(self, term_id: int) -> str:
        """Return a term in SMT-LIB syntax."""
        name, arguments = self.provenance.operation(term_id)[0], self.provenance.arguments(term_id)
        return f"({' '.join([name, *(self.text(a) for a in arguments)])})" if arguments else name

    def _level(self, level: int) -> tuple[NDArray[np.int32], Array]:
        rows = self.classes.level(level)
        return self.classes.ids[slice(*rows)], self.classes.held(*rows)

    def _offer(
        self, words: Array, hashes: Array, name: str, arguments: tuple[Any, ...], level: int, *, keep: bool
    ) -> None:
        self.n_candidates += len(words)
        fresh = self.classes.unseen(hashes)
        if not len(fresh):
            return
        columns = tuple(a[0][a[1][fresh]] if isinstance(a, tuple) else a[fresh] for a in arguments)
        ids = self.provenance.record((name, ()), columns, len(fresh), level)
        self.classes.keep(words[fresh] if keep else None, ids, level)


# -- enumeration ----------------------------------------------------------------------------------------------------


def examples(n: int = N_EXAMPLES) -> Array:
    """Return inputs x, y, z and an output that no small term gives. Shape: [4, example]."""
    return np.random.default_rng(16).integers(0, 256, size=(4, n), dtype=np.uint8)


def enumerate_ours(table: Array, n_operators: int) -> Terms:
    """Exhaust the grammar up to this many operators."""
    constants = {f"#x{c:02x}": np.full(table.shape[1], c, dtype=np.uint8) for c in (0, 1)}
    terms = Terms({**dict(zip("xyz", table, strict=False)), **constants}, BITVECTORS, complement=True)
    for level in range(1, n_operators + 1):
        terms.grow(level, keep=level < n_operators)
    return terms


def enumeration_text(table: Array) -> str:
    """Return the same problem for cvc5."""
    sort = "(_ BitVec 8)"
    rules = "x y z #x00 #x01 (bvnot S) " + " ".join(f"({o.name} S S)" for o in BITVECTORS)
    rows = ["(constraint (= (f #x%02x #x%02x #x%02x) #x%02x))" % tuple(column) for column in table.T]  # noqa: UP031
    head = f"(synth-fun f ((x {sort}) (y {sort}) (z {sort})) {sort} ((S {sort})) ((S {sort} ({rules}))))"
    return "\n".join(["(set-logic BV)", head, *rows, "(check-synth)"])


def compare_enumeration(most_operators: int, limit: int, *, with_cvc5: bool) -> bool:
    """Print the first table; return whether all counts were equal."""
    table = examples()
    print("operators  classes  cvc5 terms  candidates  ours (CPU s)  cvc5 (CPU s)  ratio")
    equal = True
    for n in range(1, most_operators + 1):
        seconds, terms = quickest(lambda n=n: enumerate_ours(table, n))
        line = f"{n:9d}  {terms.classes.n:7d}"
        if not with_cvc5:
            print(f"{line}  {'-':>10}  {terms.n_candidates:10d}  {seconds:12.4f}")
            continue
        options = {"sygus-abort-size": str(n)}
        timed = run_cvc5(enumeration_text(table), options, limit)
        counted = run_cvc5(enumeration_text(table), {**options, "output": "sygus"}, limit)
        equal &= counted["n_terms"] == terms.classes.n
        over = ">" if timed["stopped"] else ""
        ratio = timed["seconds"] / seconds
        print(
            f"{line}  {counted['n_terms']:10d}  {terms.n_candidates:10d}  {seconds:12.4f}"
            f"  {over}{timed['seconds']:11.3f}  {over}{ratio:.0f}x",
            flush=True,
        )
    return equal


def quickest(run: Callable[[], Any]) -> tuple[float, Any]:
    """Return the least CPU seconds of some repetitions, and the last result."""
    best = float("inf")
    for _ in range(REPETITIONS):
        start = time.process_time()
        result = run()
        best = min(best, time.process_time() - start)
    return best, result


# -- if-then-else ---------------------------------------------------------------------------------------------------

CHOICES: dict[str, Callable[..., int]] = {
    "max of 2": lambda x, y: max(x, y),
    "max of 3": lambda x, y, z: max(x, y, z),
    "max of 4": lambda x, y, z, w: max(x, y, z, w),
    "min of 3": lambda x, y, z: min(x, y, z),
    "median of 3": lambda x, y, z: sorted((x, y, z))[1],
    "abs": lambda x: abs(x),
    "sign": lambda x: (x > 0) - (x < 0),
    "clip to 0..y": lambda x, y: max(0, min(x, y)),
    "min of max": lambda x, y, z: min(max(x, y), z),
    "range of 3": lambda x, y, z: max(x, y, z) - min(x, y, z),
    "max of 2 plus min": lambda x, y, z: max(x, y) + min(y, z),
    "distance": lambda x, y: abs(x - y),
    "first if equal": lambda x, y, z: x if y == z else y,
}


def choice_examples(function: Callable[..., int], n: int = 32) -> tuple[Array, Array]:
    """Return inputs [variable, example] and outputs [example], half over -8..8, half over -1..1 for ties."""
    n_variables = function.__code__.co_argcount
    inputs = np.random.default_rng(32).integers(-8, 9, size=(n_variables, n)).astype(np.int16)
    inputs[:, n // 2 :] = inputs[:, n // 2 :] % 3 - 1
    return inputs, np.array([function(*(int(v) for v in column)) for column in inputs.T], dtype=np.int16)


def solve_choices(inputs: Array, outputs: Array, most_levels: int = 4) -> tuple[str, Array] | None:
    """Find a tree of if-then-else by growing terms and conditions together; return its text and its values."""
    names = "xyzw"[: len(inputs)]
    constants = {str(c): np.full(inputs.shape[1], c, dtype=np.int16) for c in (0, 1)}
    terms = Terms({**dict(zip(names, inputs, strict=True)), **constants}, INTEGERS)
    for level in range(most_levels + 1):
        if level:
            terms.grow(level)
        values, costs = terms.values(), terms.levels()
        left, right, name, holds = comparisons(values, costs, level + 1)
        tree = decision_tree(values == outputs, holds, 1 + costs, 2 + costs[left] + costs[right])
        if tree is not None:
            texts = [terms.text(int(i)) for i in terms.classes.ids]
            joined = [f"({name[i]} {texts[left[i]]} {texts[right[i]]})" for i in range(len(left))]
            return tree_text(tree, texts, joined), tree_values(tree, values, holds)
    return None


def comparisons(values: Array, costs: Array, most: int) -> tuple[Array, Array, list[str], Array]:
    """Compare all terms whose operators add up to no more than this; return sides, names and where each holds."""
    usable = np.flatnonzero(costs <= most)[:160]
    pairs = [(i, j) for i in usable for j in usable if i != j and costs[i] + costs[j] <= most]
    pairs = sorted(pairs, key=lambda p: int(costs[p[0]] + costs[p[1]]))[:6000]
    left, right = (np.array(side, dtype=np.intp) for side in zip(*pairs, strict=True))
    holds = np.concatenate([values[left] <= values[right], values[left] == values[right]])
    names = ["<="] * len(left) + ["="] * len(left)
    return np.concatenate([left, left]), np.concatenate([right, right]), names, holds


def tree_text(tree: Tree, terms: list[str], conditions: list[str]) -> str:
    """Return a tree in SMT-LIB syntax."""
    if isinstance(tree, Leaf):
        return terms[tree.term]
    assert isinstance(tree, Split)
    branches = (tree_text(branch, terms, conditions) for branch in (tree.then, tree.otherwise))
    return f"(ite {conditions[tree.condition]} {' '.join(branches)})"


def choice_text(inputs: Array, outputs: Array) -> str:
    """Return the same problem for cvc5."""
    names = "xyzw"[: len(inputs)]
    integers = f"{' '.join(names)} 0 1 (+ I I) (- I I) (ite B I I)"
    booleans = "(<= I I) (= I I) (and B B) (or B B) (not B)"
    arguments = " ".join(f"({n} Int)" for n in names)
    grammar = f"((I Int) (B Bool)) ((I Int ({integers})) (B Bool ({booleans})))"
    rows = []
    for column, output in zip(inputs.T, outputs, strict=True):
        cells = " ".join(number(int(v)) for v in column)
        rows.append(f"(constraint (= (f {cells}) {number(int(output))}))")
    return "\n".join(["(set-logic LIA)", f"(synth-fun f ({arguments}) Int {grammar})", *rows, "(check-synth)"])


def number(value: int) -> str:
    """Return an integer in SMT-LIB syntax."""
    return str(value) if value >= 0 else f"(- {-value})"


def compare_choices(*, with_cvc5: bool) -> bool:
    """Print the second table; return whether every task was solved by us and never slower than by cvc5."""
    print("task               ours (CPU s)  cvc5 (CPU s)  ratio  our solution")
    fine = True
    for name, function in CHOICES.items():
        inputs, outputs = choice_examples(function)
        seconds, solution = quickest(lambda inputs=inputs, outputs=outputs: solve_choices(inputs, outputs))
        solved = solution is not None and bool((solution[1] == outputs).all())
        line = f"{name:17}  {seconds:12.4f}"
        if with_cvc5:
            strategies = ({}, {"sygus-unif-pi": "complete"}, {"sygus-unif-pi": "cond-enum"})
            runs = [run_cvc5(choice_text(inputs, outputs), options, limit=20) for options in strategies]
            best = min(runs, key=lambda r: (r["stopped"] or not r["solved"], r["seconds"]))
            over = ">" if best["stopped"] or not best["solved"] else ""
            fine &= solved and best["seconds"] >= seconds
            line += f"  {over:1}{best['seconds']:11.3f}  {best['seconds'] / seconds:4.0f}x"
        print(f"{line}  {solution[0] if solution and solved else 'none'}", flush=True)
        fine &= solved
    return fine


# -- cvc5 -----------------------------------------------------------------------------------------------------------


def run_cvc5(text: str, options: dict[str, str], limit: int) -> dict[str, Any]:
    """Run a SyGuS problem in a process of its own; return its CPU seconds, its answer and the number of terms tried.

    The seconds are those of the commands alone, without starting Python or loading cvc5.
    """
    call = [sys.executable, __file__, "--cvc5", json.dumps(options), "--limit", str(limit)]
    child = subprocess.run(call, input=text, capture_output=True, text=True)
    if child.returncode == -signal.SIGXCPU:
        return {"seconds": float(limit), "stopped": True, "solved": False, "n_terms": 0}
    if child.returncode:
        raise RuntimeError(child.stderr)
    lines = child.stdout.splitlines()
    seconds = next(float(line.split()[1]) for line in lines if line.startswith(";seconds "))
    n_terms = sum(line.startswith("(sygus-enum ") for line in lines)
    return {"seconds": seconds, "stopped": False, "solved": "define-fun" in child.stdout, "n_terms": n_terms}


def be_cvc5(options: dict[str, str], limit: int) -> None:
    """Run the problem on standard input and print what cvc5 prints, then the CPU seconds."""
    import cvc5

    used = int(time.process_time())
    resource.setrlimit(resource.RLIMIT_CPU, (used + limit, used + limit + 1))

    solver = cvc5.Solver(cvc5.TermManager())
    for name, value in {"sygus": "true", **options}.items():
        solver.setOption(name, value)
    parser = cvc5.InputParser(solver)
    parser.setStringInput(cvc5.InputLanguage.SYGUS_2_1, sys.stdin.read(), "problem")
    symbols = parser.getSymbolManager()
    start = time.process_time()
    for command in iter(parser.nextCommand, None):
        if command.isNull():
            break
        print(command.invoke(solver, symbols), flush=True)
    print(f"\n;seconds {time.process_time() - start}", flush=True)


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--operators", type=int, default=4)
    parser.add_argument("--no-cvc5", action="store_true")
    parser.add_argument("--only", choices=("enumeration", "choices"))
    parser.add_argument("--limit", type=int, default=CVC5_LIMIT, help="CPU seconds given to each run of cvc5")
    parser.add_argument("--cvc5", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """Print both tables; exit 1 if a count differs or a task is unsolved or slower than cvc5."""
    options = arguments()
    if options.cvc5 is not None:
        be_cvc5(json.loads(options.cvc5), options.limit)
        return 0
    fine = True
    if options.only != "choices":
        fine &= compare_enumeration(options.operators, options.limit, with_cvc5=not options.no_cvc5)
    if options.only != "enumeration":
        fine &= compare_choices(with_cvc5=not options.no_cvc5)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
