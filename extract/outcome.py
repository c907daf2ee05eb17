"""What a stage may conclude: counterexamples, certificates and the three verdicts; budgets and what was spent.

Three verdicts and no fourth: a stage that could not finish says Unknown and how far it came.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from extract.lang.terms import Program


@dataclass(frozen=True, slots=True)
class Counterexample:
    """One input of the domain on which program and model differ.

    ``tokens`` are ids of ``{x}``; ``model`` and ``program`` are answer codes (ABSENT-free); ``position`` is the first
    differing cell of the answer; ``margin`` is the model's, in logits; ``replayed`` says that the loaded model and
    the reference interpreter both reproduced their side; ``minimal`` that no shorter input of the domain obtained by
    deleting one token, and none earlier in enumeration order at that length among those tried, also differs.
    """

    tokens: tuple[int, ...]
    offset: int
    position: int
    model: tuple[int, ...]
    program: tuple[int, ...]
    margin: float
    method: str
    replayed: bool = False
    minimal: bool = False


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits: machine-independent units first, seconds only as a guard (0 means no limit)."""

    n_candidates: int = 1_500_000
    n_rounds: int = 24
    max_cost: int = 24
    memory_bytes: int = 4 << 30
    seconds: float = 600.0


@dataclass(slots=True)
class Spent:
    """What a stage used, in the same units as the budget."""

    n_candidates: int = 0
    n_distinct: int = 0
    n_rounds: int = 0
    n_queries: int = 0
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tally:
    """Exact counts of inputs at one length and offset, or summed; they add up to the inputs counted.

    ``min_margin`` is the least model margin among the inputs decided, in logits; ``undecided`` counts inputs that
    were not evaluated or whose margin is within the error bound.
    """

    agree: int = 0
    disagree: int = 0
    undecided: int = 0
    min_margin: float = float("inf")

    @property
    def total(self) -> int:
        """The number of inputs counted."""
        return self.agree + self.disagree + self.undecided

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.agree + other.agree,
            self.disagree + other.disagree,
            self.undecided + other.undecided,
            min(self.min_margin, other.min_margin),
        )


@dataclass(frozen=True, slots=True)
class CellTally:
    """Exact counts of single answers, one per input and read position, over a run of inputs of one length.

    ``undetermined`` has one count per position: of the inputs whose answer there no precision tried could decide.
    """

    agree: int
    disagree: int
    undetermined: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Region:
    """A run of consecutive inputs of one length and offset in enumeration order, ``start`` to ``stop`` (exclusive).

    ``digest`` is the sha256 of the model's answers in that order, each answer as little-endian int32 codes. ``cells``
    counts single answers, where an input has several and not all of the domain's could be decided.
    """

    length: int
    offset: int
    start: int
    stop: int
    tally: Tally
    digest: str
    cells: CellTally | None = None


@dataclass(frozen=True, slots=True)
class AnswerClass:
    """The inputs of one length and offset that have one answer of the program, and one token as the attention's query.

    ``query`` is the id of the token of ``{x}`` at the read-out position, None where the template's token is there.
    ``tally.min_margin`` is a proved lower bound of the least margin of the class, infinite unless all of it agrees.
    """

    length: int
    offset: int
    query: int | None
    answer: tuple[int, ...]
    tally: Tally


@dataclass(frozen=True, slots=True)
class BoxRegion:
    """All inputs of one length and offset, decided box by box.

    ``tree`` is the tree of boxes as compact JSON (verify/climb.py says how); ``witnesses`` are token ids of replayed
    inputs on which the model differs. The tally counts those in undecided boxes as differing; its least margin is a
    lower bound. ``error_bound`` bounds, in logits, the rounding error in float32 of every margin decided, where that is
    claimed; bounded margins are what is left of them beyond it.
    """

    length: int
    offset: int
    tally: Tally
    tree: str
    witnesses: tuple[tuple[int, ...], ...]
    error_bound: float = 0.0


@dataclass(frozen=True, slots=True)
class Certificate:
    """A claim about one program with the evidence by region; ``extract check`` re-checks its stored form.

    ``error_bound`` bounds, in logits, the rounding error of every margin counted as decided (each is above its own
    bound); ``least_margin_bound`` is the bound of the input with the least margin; ``fragile`` are inputs
    evaluated whose margin is within the bound even in the highest precision tried. ``classes`` are the evidence of
    the method ``separable``, whose regions are whole lengths without a digest. ``boxes`` hold lengths that have no
    region.
    """

    program: Program
    method: str
    semantics: str
    regions: tuple[Region, ...]
    tally: Tally
    error_bound: float
    least_margin_bound: float
    fragile: tuple[tuple[tuple[int, ...], int], ...]
    n_fragile: int
    assumptions: tuple[str, ...]
    classes: tuple[AnswerClass, ...] = ()
    boxes: tuple[BoxRegion, ...] = ()


@dataclass(frozen=True, slots=True)
class Certified:
    """The program equals the model on every input of the domain."""

    certificate: Certificate


@dataclass(frozen=True, slots=True)
class Refuted:
    """The program differs from the model; the certificate counts how often when that is known exactly.

    ``counterexamples`` is never empty and is in enumeration order.
    """

    counterexamples: tuple[Counterexample, ...]
    certificate: Certificate | None


@dataclass(frozen=True, slots=True)
class Unknown:
    """Not decided: ``reason`` is for people and never branched on; the certificate holds what was decided."""

    reason: str
    certificate: Certificate | None


Verdict = Certified | Refuted | Unknown
