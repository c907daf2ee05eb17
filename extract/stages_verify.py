"""The verifier of the loop: the model's answers to the whole domain, enumerated once, compared with any program.

The table is made when it is first needed, shortest inputs first, within a limit on work that does not depend on the
machine. What it could not reach is undecided and counted.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Protocol, Self

import numpy as np

from extract.cegis import Candidate, Differences, Row
from extract.certificate_file import MAX_LISTED
from extract.clock import Guard
from extract.lang.batched import Batch, evaluate
from extract.lang.cost import program_cost
from extract.lang.terms import Program
from extract.oracle import Oracle
from extract.outcome import BoxRegion, Certified, Counterexample, Refuted, Verdict
from extract.progress import Progress
from extract.readout import same_answers
from extract.shards import Shards
from extract.stages_load import Subject
from extract.stages_model import answers_of
from extract.stages_shards import SubjectShards
from extract.table_model import TableModel
from extract.verify.answer_table import AnswerTable
from extract.verify.climb import BoxClimber
from extract.verify.compare import (
    InputCodes,
    compare,
    counterexamples_of,
    first_differences,
    unevaluated,
    verdict,
)
from extract.verify.programs import Distinguished, ProgramComparer, SameOnDomain
from extract.verify.separable import decide, why_not
from extract.verify.sum_table import work_per_input

#: Multiply-adds a nominal core does in a second; it turns ``--time`` into work that every machine counts alike.
_WORK_PER_SECOND = 2e9
#: The clock ends an enumeration that takes this many times the time asked for.
_PATIENCE = 1.5
#: Where bounds apply, one part in so many of the work is for enumeration before them; a few parts would do.
_SHARE_BEFORE_BOUNDS = {"auto": 40, "bounds": 4000}
#: Solver resources and seconds for telling one rival from the winner.
_RLIMIT, _RIVAL_SECONDS = 20_000_000, 10.0
#: A program that differs on more of a sample than this is not counted on the whole domain.
_SAMPLE, _SAMPLE_SEED, _HOPELESS = 4096, 7, 0.05


class Limits(Protocol):
    """What a request allows: ``seconds`` become a limit on work; ``method`` is auto, bounds or enumerate."""

    @property
    def seconds(self) -> float: ...
    @property
    def memory_bytes(self) -> int: ...
    @property
    def semantics(self) -> str: ...
    @property
    def method(self) -> str: ...


class Beyond:
    """What decides programs class by class where the domain is larger than an enumeration may be; verdicts are kept.

    ``applies`` says whether it is asked at all; it is too where bounds are asked for.
    """

    def __init__(self, subject: Subject, oracle: Oracle, limits: Limits, progress: Progress) -> None:
        model, domain = subject.checkpoint.model, subject.domain
        self._subject, self._oracle, self._progress = subject, oracle, progress
        self._seconds, self._semantics, self._known = limits.seconds, limits.semantics, dict[Program, Verdict]()
        if isinstance(model, TableModel):
            self.applies = False
            return
        network = model
        feasible = min(limits.seconds * _WORK_PER_SECOND // work_per_input(network.architecture), limits.memory_bytes)
        self.applies = (
            limits.method != "enumerate"
            and domain.size_is_exact
            and (limits.method == "bounds" or domain.size > feasible)
            and why_not(network, domain, limits.semantics) is None
        )

    def verdict(self, program: Program) -> Verdict:
        """Decide a program class by class; the clock only ends what takes far too long."""
        if program not in self._known:
            guard = Guard(_PATIENCE * self._seconds)
            self._progress.phase("verify")
            self._known[program] = decide(
                program,
                self._subject.checkpoint.network,
                self._subject.domain,
                self._oracle,
                semantics=self._semantics,
                progress=self._progress,
                stop=guard.is_over,
            )
        return self._known[program]


def _known(found: Verdict, size: int, limit: int) -> Differences:
    """Return what a verdict says of the first differences; their number is exact where nothing is undecided."""
    rows: tuple[Row, ...] = ()
    if isinstance(found, Refuted):
        rows = tuple((c.tokens, c.offset) for c in found.counterexamples[:limit])
    tally = found.certificate.tally if found.certificate is not None else None
    is_counted = tally is not None and (tally.undecided == 0 or not rows)
    return Differences(rows, tally.disagree if tally is not None and is_counted else None, size)


class TableVerifier:
    """Answers the loop's questions about programs from one table of the model's answers (``cegis.Verifier``).

    ``is_interrupted`` says that Ctrl-C ended the enumeration early, with what was complete kept. ``shards`` do parts of
    a verification beside this process, and change no result.
    """

    def __init__(
        self,
        subject: Subject,
        oracle: Oracle,
        limits: Limits,
        progress: Progress,
        shards: Shards | None = None,
    ) -> None:
        self.subject, self.oracle, self.limits, self.progress = subject, oracle, limits, progress
        self._shards = None if shards is None else SubjectShards.of(shards, subject, limits.semantics)
        self.is_interrupted = False
        self._domain = subject.domain
        self._table: AnswerTable | None = None
        self._inputs = InputCodes(subject.domain)
        self._comparer: ProgramComparer | None = None
        self._asked: Program | None = None
        self._beyond = Beyond(subject, oracle, limits, progress)
        self._climber = self._made_climber()
        self._is_full, self._has_proved, self._guard = False, False, Guard(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._comparer is not None:
            self._comparer.close()

    @property
    def table(self) -> AnswerTable:
        """The model's answers, enumerated when first asked for.

        Raises:  KeyboardInterrupt once, after the table is complete as far as it goes, if Ctrl-C ended it.
        """
        if self._table is None:
            share = 1 if self._climber is None else _SHARE_BEFORE_BOUNDS[self.limits.method]
            self._table = self._enumerated(int(self.limits.seconds * _WORK_PER_SECOND / share))
            if self.is_interrupted:
                raise KeyboardInterrupt
        return self._table

    def _enumerated(self, work_limit: int) -> AnswerTable:
        self.progress.phase("verify")
        guard = Guard(_PATIENCE * self.limits.seconds)
        with self._interrupts_noted():
            return answers_of(
                self.subject.checkpoint,
                self._domain,
                semantics=self.limits.semantics,
                work_limit=work_limit,
                memory_bytes=self.limits.memory_bytes,
                progress=self.progress,
                shards=self._shards,
                stop=lambda: self.is_interrupted or guard.is_over(),
            )

    def _made_climber(self) -> BoxClimber | None:
        """Return what decides long lengths by bounds; None where that is not asked for or does not apply."""
        limits, model = self.limits, self.subject.checkpoint.model
        if limits.method == "enumerate" or self._beyond.applies or isinstance(model, TableModel):
            return None
        climber = BoxClimber(
            model, self._domain, self.oracle, limits.semantics,
            work_limit=int(limits.seconds * _WORK_PER_SECOND), progress=self.progress,
            stop=lambda: self.is_interrupted or self._guard.is_over(), worth=self._enumeration_work,
            shards=self._shards,
        )  # fmt: skip
        return None if climber.refusal else climber

    def _enumeration_work(self, length: int) -> int | None:
        """Return what enumerating a length would cost in multiply-adds; None if it would not be done."""
        if self.limits.method != "auto" or self._is_full or self._has_proved or not self._is_in_reach(length):
            return None
        return self._work_of((length,))

    def _is_in_reach(self, length: int) -> bool:
        """Say whether the limits allow the enumeration of all inputs up to a length."""
        shorter = [n for n in self._domain.lengths if n <= length]
        return self._work_of(shorter) <= self.limits.seconds * _WORK_PER_SECOND

    def _work_of(self, lengths: Sequence[int]) -> int:
        """Return the multiply-adds of enumerating all inputs of some lengths, about."""
        size = sum(self._domain.size_at(n) for n in lengths) * len(self._domain.offsets)
        return size * work_per_input(self.subject.checkpoint.network.architecture)

    @contextmanager
    def _interrupts_noted(self) -> Iterator[None]:
        """Note the first Ctrl-C, so that the enumeration ends in order; a second one raises at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(_: int, __: FrameType | None) -> None:
            if self.is_interrupted:
                raise KeyboardInterrupt
            self.is_interrupted = True

        before = signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    @contextmanager
    def _climbing(self) -> Iterator[None]:
        """Give boxes their time. Raises: KeyboardInterrupt at the end if Ctrl-C came meanwhile, and not before."""
        was_interrupted = self.is_interrupted
        self._guard = Guard(_PATIENCE * self.limits.seconds)
        with self._interrupts_noted():
            yield
        if self.is_interrupted and not was_interrupted:
            raise KeyboardInterrupt

    def differences(self, program: Program, limit: int) -> Differences:
        """Return the first inputs on which program and model differ; counted exactly unless they are very many."""
        self._asked = program
        if self._beyond.applies:
            return _known(self._beyond.verdict(program), self._domain.size, limit)
        table = self.table
        found = first_differences(program, table, self._domain, limit, inputs=self._inputs)
        rows: tuple[Row, ...] = tuple((d.tokens, d.offset) for d in found)
        n_total: int | None = None
        if not found:
            return self._at_long_lengths(program, limit)
        if not self._is_hopeless(program):
            n_total = compare(program, table, self._domain, limit=0, inputs=self._inputs).tally.disagree
        return Differences(rows, n_total, table.n_evaluated)

    def _at_long_lengths(self, program: Program, limit: int) -> Differences:
        """Return the differences that bounds find at lengths the table does not hold, where it holds none."""
        if self._climber is None:
            return Differences((), 0, self.table.n_evaluated)
        table = self.table
        with self._climbing():
            climb = self._climber.climb(program, unevaluated(table))
        if not climb.examples and self._has_enumerated_more(climb.regions):
            return self.differences(program, limit)
        rows: tuple[Row, ...] = tuple((e.tokens, e.offset) for e in climb.examples[:limit])
        tally = climb.tally
        return Differences(rows, tally.disagree, self.table.n_evaluated + tally.agree + tally.disagree)

    def _is_hopeless(self, program: Program) -> bool:
        inputs = self._domain.sample(_SAMPLE, _SAMPLE_SEED)
        vocabulary = self._domain.vocabulary
        batch = Batch(inputs.codes(vocabulary), inputs.lengths)
        said = evaluate(program, batch, vocabulary, self._domain.readout)
        agree = same_answers(said, self.oracle.answer(inputs).values)
        return float(np.mean(~agree)) > _HOPELESS

    def verdict(self, program: Program) -> Verdict:
        """Decide whether program and model agree on every input of the domain."""
        self._asked = program
        if self._beyond.applies:
            return self._beyond.verdict(program)
        found = self._judged(program)
        certificate = None if isinstance(found, Certified) else found.certificate
        if certificate is not None and self._has_enumerated_more(certificate.boxes):
            found = self._judged(program)
        self._has_proved = self._has_proved or isinstance(found, Certified)
        return found

    def _judged(self, program: Program) -> Verdict:
        table = self.table
        with self._climbing():
            return verdict(program, table, self._domain, self.oracle, inputs=self._inputs, climber=self._climber)

    def _has_enumerated_more(self, regions: tuple[BoxRegion, ...]) -> bool:
        """Enumerate with the whole of the limits if bounds left a length undecided that this may reach; say whether.

        Once a program is proved, others are not worth that: what bounds leave of them stays undecided.
        Raises:  KeyboardInterrupt after the table is complete as far as it goes, if Ctrl-C ended it.
        """
        if self._is_full or self._has_proved or self._climber is None or self.is_interrupted:
            return False
        if self.limits.method != "auto":
            return False
        decided = {(region.length, region.offset) for region in regions if not region.tally.undecided}
        left = [length for length, offset in unevaluated(self.table) if (length, offset) not in decided]
        if not left or not self._is_in_reach(min(left)):
            return False
        self._is_full = True
        fuller = self._enumerated(int(self.limits.seconds * _WORK_PER_SECOND))
        has_more = self.table.n_evaluated < fuller.n_evaluated
        if has_more:
            self._table = fuller
        if self.is_interrupted:
            raise KeyboardInterrupt
        return has_more

    def distinguish(self, left: Program, right: Program) -> tuple[Row | None, str]:
        """Return an input of the domain on which two programs differ, or None and "equal" or a reason."""
        if self._comparer is None:
            self._comparer = ProgramComparer(self._domain)
        found = self._comparer.distinguish(left, right, rlimit=_RLIMIT, seconds=_RIVAL_SECONDS)
        if isinstance(found, Distinguished):
            return (found.tokens, found.offset), "different"
        return None, "equal" if isinstance(found, SameOnDomain) else found.reason

    def best_so_far(self) -> tuple[Candidate, ...]:
        """Return the program asked about when the loop was interrupted, judged by what is in the table."""
        if self._asked is None or self._table is None:
            return ()
        return (Candidate(self._asked, program_cost(self._asked), self.verdict(self._asked), "interrupted"),)

    def exceptions(self, program: Program, found: Verdict) -> tuple[Counterexample, ...]:
        """Return the replayed differences of a refuted program in canonical order, as many as a certificate lists."""
        if not isinstance(found, Refuted):
            return ()
        if self._beyond.applies:
            return found.counterexamples[1:]
        listed = compare(program, self.table, self._domain, limit=MAX_LISTED, inputs=self._inputs).first
        beyond = tuple(example for example in found.counterexamples if example.method == "boxes")
        return (*counterexamples_of(program, self.oracle, listed), *beyond)
