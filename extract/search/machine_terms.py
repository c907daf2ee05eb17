"""Terms that spell a learned machine out: a scan, and conditions or tables on its state.

States are numbered so that the condition is short: the accepting ones in a row, the start first where it can be. Every
form is proposed; cost decides between them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from extract.domain import Domain
from extract.lang.terms import Datum, Term
from extract.search.automata import MooreMachine, mealy_states
from extract.search.builders import TOKENS, boolean, choose, constant, datum, integer, last_of, table, table_of_pair
from extract.search.carries import carry_terms
from extract.vocabulary import SYMBOL_BASE


def machine_terms(machine: MooreMachine, domain: Domain, *, is_boolean: bool, is_whole: bool) -> Iterator[Term]:
    """Yield terms for a machine's output after the whole input, or at each position.

    Outputs the domain never asks for are taken as whatever suits.
    """
    codes = [o for o in dict.fromkeys(machine.outputs) if o is not None]
    if len(codes) < 2:
        yield constant(codes[0] if codes else 0, domain.vocabulary, is_boolean=is_boolean)
        return
    if len(codes) == 2:
        yes, no = (1, 0) if is_boolean else (codes[1], codes[0])
        condition = state_condition(machine, domain, yes, is_whole=is_whole)
        yield condition if is_boolean else chosen_by(condition, yes, no, domain)
        if not is_boolean:
            yield choose(state_condition(machine, domain, no, is_whole=is_whole), *_constants([no, yes], domain))
    else:
        yield from _many_outputs(machine, domain, codes, is_whole=is_whole)
    if not is_whole and not is_boolean:
        yield from _by_steps(machine, domain)
        yield from carry_terms(machine, domain)


def chosen_by(condition: Term, yes: int, no: int, domain: Domain) -> Term:
    """Return the answer that is ``yes`` where a condition holds and ``no`` elsewhere."""
    if (yes, no) == (1, 0):
        return Term("int", (condition,))
    return choose(condition, *_constants([yes, no], domain))


def _constants(codes: Sequence[int], domain: Domain) -> list[Term]:
    return [constant(code, domain.vocabulary) for code in codes]


def state_term(machine: MooreMachine, domain: Domain, order: Sequence[int], *, is_whole: bool) -> Term:
    """Return the state, renumbered so that ``order[i]`` becomes i; letters that never move are left out."""
    number = {state: i for i, state in enumerate(order)}
    moves = [any(row[j] != s for s, row in enumerate(machine.transitions)) for j in range(len(domain.alphabet))]
    letters = tuple(
        datum(int(domain.vocabulary.token_codes[token]), domain.vocabulary)
        for token, moved in zip(domain.alphabet, moves, strict=True)
        if moved
    )
    transitions: tuple[Datum, ...] = tuple(
        tuple(number[t] for t, moved in zip(machine.transitions[state], moves, strict=True) if moved) for state in order
    )
    start = number[0]
    scan = Term("scan", (TOKENS,), (start, letters, transitions))
    if not is_whole:
        return scan
    return last_of(scan, integer(start) if start and domain.min_length == 0 else None)


def state_condition(machine: MooreMachine, domain: Domain, code: int, *, is_whole: bool) -> Term:
    """Return a boolean that holds where the machine's output is ``code``."""
    inside = [s for s in range(machine.n_states) if machine.outputs[s] == code]
    outside = [s for s in range(machine.n_states) if machine.outputs[s] != code]
    if not inside or not outside:
        return boolean(bool(inside))
    starts_inside = inside[0] == 0
    if len(inside) == 1:
        order = inside + outside if starts_inside else [0, *inside, *outside[1:]]
        state = state_term(machine, domain, order, is_whole=is_whole)
        return Term("==", (state, integer(0 if starts_inside else 1)))
    order = inside + outside if starts_inside else outside + inside
    state = state_term(machine, domain, order, is_whole=is_whole)
    if starts_inside:
        return Term("<", (state, integer(len(inside))))
    return Term("<", (integer(len(outside) - 1), state))


def _many_outputs(machine: MooreMachine, domain: Domain, codes: list[int], *, is_whole: bool) -> Iterator[Term]:
    vocabulary = domain.vocabulary
    outputs = [codes[0] if o is None else o for o in machine.outputs]
    if sorted(outputs) == list(range(machine.n_states)):
        order = sorted(range(machine.n_states), key=lambda s: outputs[s])
        yield state_term(machine, domain, order, is_whole=is_whole)
    plain = state_term(machine, domain, range(machine.n_states), is_whole=is_whole)
    if len({code >= SYMBOL_BASE for code in codes}) == 1:
        yield table(plain, {s: datum(outputs[s], vocabulary) for s in range(machine.n_states)})
    # a chain of conditions on states in a row, one row for each output
    order = sorted(range(machine.n_states), key=lambda s: (codes.index(outputs[s]), s))
    state = state_term(machine, domain, order, is_whole=is_whole)
    result = constant(codes[-1], vocabulary)
    for code in reversed(codes[:-1]):
        bound = sum(codes.index(o) <= codes.index(code) for o in outputs)
        result = choose(Term("<", (state, integer(bound))), constant(code, vocabulary), result)
    yield result


def _by_steps(machine: MooreMachine, domain: Domain) -> Iterator[Term]:
    """Yield a table of (state before, token) where that needs fewer states than the state after."""
    block, n_blocks = mealy_states(machine)
    if n_blocks >= machine.n_states:
        return
    first = {b: s for s, b in reversed(list(enumerate(block)))}
    vocabulary = domain.vocabulary
    entries: dict[tuple[Datum, Datum], Datum] = {}
    rows = []
    for b in range(n_blocks):
        rows.append(tuple(block[t] for t in machine.transitions[first[b]]))
        for token, target in zip(domain.alphabet, machine.transitions[first[b]], strict=True):
            output = machine.outputs[target]
            if output is not None:
                entries[b, datum(int(vocabulary.token_codes[token]), vocabulary)] = datum(output, vocabulary)
    if len({isinstance(v, str) for v in entries.values()}) != 1:
        return
    if n_blocks == 1:
        yield table(TOKENS, {key[1]: value for key, value in entries.items()})
        return
    small = MooreMachine(tuple(rows), (0,) * n_blocks)
    before = Term("shift", (state_term(small, domain, range(n_blocks), is_whole=False),), (1,))
    yield table_of_pair(before, TOKENS, entries)
