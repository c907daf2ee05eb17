"""Whether a task and a network fit each other: as many names as embedding rows, enough positions, an answer to read.

It compares numbers the spec gives with numbers the checkpoint has, before anything is run; it runs nothing.
"""

from __future__ import annotations

from extract.domain import Domain
from extract.errors import DomainError, SpecError
from extract.network import Architecture

_LARGEST_TOLERANCE = 0.5


def check_fit(architecture: Architecture, domain: Domain) -> None:
    """Check vocabulary, outputs, read-out and positions of a task against a network.

    Raises:  SpecError naming both numbers, DomainError for an input that renders to more positions than there are.
    """
    vocabulary, readout = domain.vocabulary, domain.readout
    n_names, n_outputs = len(vocabulary.names), len(vocabulary.output_names)
    if n_names != architecture.d_vocab:
        raise SpecError(
            f"$.tokens.vocab: vocab has {n_names} names, the embedding has {architecture.d_vocab} rows",
            hint="list every token id of the network, in order",
        )
    if readout.kind == "value":
        if architecture.d_vocab_out != 1:
            raise SpecError(
                f"$.readout.kind: 'value', but the network has {architecture.d_vocab_out} outputs, expected one number",
                hint="use argmax, or multilabel with a threshold",
            )
        if not 0 < readout.tolerance < _LARGEST_TOLERANCE:
            raise SpecError(
                f"$.readout.tolerance: {readout.tolerance}, expected more than 0 and less than {_LARGEST_TOLERANCE}",
                hint="at most one whole number may be within tolerance of an answer",
            )
    elif n_outputs != architecture.d_vocab_out:
        field = "outputs" if vocabulary.outputs else "outputs (absent, so the vocabulary)"
        raise SpecError(
            f"$.readout.{field}: {n_outputs} names, the network has {architecture.d_vocab_out} logits",
            hint="name every output id of the network, in order",
        )
    if readout.kind == "multilabel" and readout.at not in ("last", "first"):
        raise SpecError(f"$.readout.at: {readout.at!r} with kind 'multilabel', expected 'last' or 'first'")
    if readout.at == "generate":
        for name in sorted(set(vocabulary.output_names) - set(vocabulary.names)):
            raise SpecError(f"$.readout.outputs: {name!r}, expected a token, since answers are fed back")
    _check_range("$.domain.alphabet", domain.alphabet, architecture.d_vocab)
    _check_range("$.readout.choices", readout.choices, architecture.d_vocab_out)
    for length in domain.lengths:
        check_positions(architecture, domain, length, max(domain.offsets))


def check_positions(architecture: Architecture, domain: Domain, length: int, offset: int) -> None:
    """Check that inputs of one length have a position id for every token, those to be generated included.

    Raises:  DomainError naming length, offset and n_ctx.
    """
    rendered, readout = domain.rendered_length(length), domain.readout
    if rendered == 0 and readout.at != "every":
        raise DomainError(
            f"inputs of length {length} render to an empty prompt, expected at least one token",
            hint="raise $.domain.min_length, or put a token in $.domain.template",
        )
    # The last token generated is never fed back, so it needs no position.
    n_fed = max(readout.max_new - 1, 0) if readout.at == "generate" else 0
    if offset + rendered + n_fed > architecture.n_ctx:
        tokens = f"{rendered} tokens" + (f" and {n_fed} generated ones" if n_fed else "")
        raise DomainError(
            f"inputs of length {length} take {tokens} from offset {offset}, expected at most n_ctx = "
            f"{architecture.n_ctx} position ids",
            hint="lower $.domain.max_length (--max-length), the offsets, or $.readout.max_new",
        )


def _check_range(path: str, ids: tuple[int, ...], size: int) -> None:
    for i in ids:
        if not 0 <= i < size:
            raise SpecError(f"{path}: id {i}, expected 0 to {size - 1}")
