"""Small domains and oracles made of plain Python functions, shared by the search tests."""

from __future__ import annotations

from collections.abc import Callable

from extract.domain import Domain, build_domain
from extract.lang.promise import compile_promise
from extract.oracle import TableOracle
from extract.spec import parse_spec

Function = Callable[[tuple[int, ...]], tuple[int, ...]]


def domain(
    alphabet: str = "01",
    *,
    lengths: tuple[int, int] = (1, 8),
    at: str = "last",
    kind: str = "argmax",
    numeric: bool = False,
    where: str | None = None,
    prefixes_of: str | None = None,
    max_new: int = 0,
) -> Domain:
    """Build a domain over one-letter tokens with an ``<eos>`` that stops generation."""
    names = ", ".join(f'"{c}"' for c in alphabet)
    text = f"""
version = 1
name = "w"
[tokens]
vocab = [{names}, "<bos>", "<eos>"]
numeric = {str(numeric).lower()}
[domain]
alphabet = [{names}]
min_length = {lengths[0]}
max_length = {lengths[1]}
template = "<bos> {{x}}"
"""
    if where:
        text += f'where = "{where}"\n'
    if prefixes_of:
        text += f'prefixes_of = "{prefixes_of}"\n'
    text += f'[readout]\nat = "{at}"\nkind = "{kind}"\n'
    if at == "generate":
        text += f'stop = "<eos>"\nmax_new = {max_new}\n'
    return build_domain(parse_spec(text), compile_promise)


def oracle(world: Domain, function: Function) -> TableOracle:
    """Answer with a function from token codes to answer codes."""
    return TableOracle(world, function)
