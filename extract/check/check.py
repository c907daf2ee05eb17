"""The independent re-check of a certificate: every number of the claim is counted or evaluated again by other code.

It trusts nothing but the checkpoint and the spec on disk, and imports nothing of the package outside this folder.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from extract.check.answers import Model, adapters, is_defined, program_answers
from extract.check.anykind import forward_of
from extract.check.boxes import BoxCheck, is_bounded
from extract.check.counts import are_counts, cells_fit, count_cells, statuses
from extract.check.forward import DOUBLE, SINGLE
from extract.check.language import Ints
from extract.check.program import parse
from extract.check.reader import Unreadable, parse_json, read_bytes, read_network
from extract.check.separable import Separable
from extract.check.spec import ABSENT, read_task
from extract.check.table import TableAnswers, TableRows, find_table
from extract.check.weights import Weights

SCHEMA = "extract.certificate/1"
_REGION, _LISTED, _LONGEST = 65_536, 1000, 10_000
_COUNTS = ("agree", "disagree", "undecided")
#: An input may be counted undecided under bounds this much looser than ours.
_LOOSER = 1000
#: Inputs re-evaluated without ``full`` are at most this many, over layers times d_model: about a minute's work.
_WORK = 24_000_000
_MALFORMED = (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError, OverflowError)


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What the check found: ``reasons`` is empty exactly if the certificate is accepted; ``coverage`` is a sentence.

    ``n_reevaluated`` counts inputs in the regions; ``regions`` those regions whose digest was computed again;
    ``unproved`` are (length, offset, the entry confirmed) of boxes our own bounds do not all confirm, a reason each;
    ``n_doubts`` counts the reasons that say no more than that our own rounding bound is above a margin; ``errors`` are
    (length, offset, error) of boxes whose error in single precision is above the one stated, a reason each there.
    """

    accepted: bool
    reasons: tuple[str, ...]
    coverage: str
    n_reevaluated: int = 0
    regions: int = 0
    unproved: tuple[tuple[int, int, dict[str, Any] | None], ...] = ()
    n_doubts: int = 0
    errors: tuple[tuple[int, int, float], ...] = ()

    @property
    def is_doubt(self) -> bool:
        """Whether nothing contradicts the claim, and only our own rounding bounds fall short of confirming it."""
        return 0 < self.n_doubts == len(self.reasons)


class _Rejected(Exception):
    """The certificate is wrong in a way that leaves nothing further to check."""


def check_certificate(
    certificate_path: Path,
    checkpoint_path: Path,
    spec_path: Path | None = None,
    *,
    full: bool = False,
    budget_inputs: int = 200_000,
    progress: Any = None,
) -> CheckResult:
    """Check a certificate against the checkpoint and the spec it names; ``spec.toml`` beside the checkpoint by default.

    Every input is evaluated again if ``full`` or if they are few; else regions or slices chosen by the sha256 of the
    certificate. ``progress`` has ``advance(done, total, unit)``.
    Raises:  Unreadable if a file cannot be read or uses a feature the checker does not know.
    """
    data = read_bytes(certificate_path, 1 << 27)
    certificate = parse_json(data, str(certificate_path))
    try:
        check = _Check(certificate, checkpoint_path, spec_path)
        return check.run(hashlib.sha256(data).digest(), math.inf if full else budget_inputs, progress)
    except _Rejected as rejected:
        reason = str(rejected)
    except _MALFORMED as error:
        reason = f"certificate or program is malformed: {type(error).__name__}: {error}"
    return CheckResult(False, (" ".join(reason.split()),), "re-evaluated no input")


def _require(holds: bool, reason: str) -> None:
    if not holds:
        raise _Rejected(reason)


def _decimal(text: Any) -> int:
    is_count = isinstance(text, str) and text.isascii() and text.isdigit() and (text[0] != "0" or text == "0")
    _require(is_count, f"claim: {text!r} is not a count as a decimal string")
    return int(text)


class _Check:
    """One certificate with the files it speaks of; the constructor settles everything but the numbers."""

    def __init__(self, cert: dict[str, Any], checkpoint: Path, spec: Path | None) -> None:
        if cert.get("schema") != SCHEMA:
            raise Unreadable(f"certificate: schema is {cert.get('schema')!r}, expected {SCHEMA!r}")
        rest = {key: value for key, value in cert.items() if key != "self_sha256"}
        canonical = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
        sealed = hashlib.sha256(canonical.encode()).hexdigest() == cert.get("self_sha256")
        _require(sealed, "self_sha256 is not the sha256 of the certificate: it was edited or damaged")
        used, self.cert, self.regions, self.reasons = cert["spec"], cert, cert["regions"], list[str]()
        self.offsets: list[int] = used["offsets"]
        is_domain = are_counts(used["max_length"], *self.offsets) and used["max_length"] <= _LONGEST
        is_domain = is_domain and len(set(self.offsets)) == len(self.offsets) > 0
        _require(is_domain, f"spec: max_length and offsets are {used['max_length']!r} and {self.offsets!r}")
        folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
        beside = next((folder / n for n in ("spec.toml", "spec.json") if (folder / n).is_file()), folder / "spec.toml")
        self.task = read_task(spec or beside, used["max_length"], self.offsets)
        table = find_table(checkpoint, self.task.facts)
        source = TableRows(table) if table is not None else read_network(checkpoint, self.task.facts)
        for name, found in (("checkpoint", source.digest), ("spec", self.task.digest)):
            stated = cert[name]["sha256"]
            _require(found == stated, f"{name}: sha256 is {found[:16]}..., the certificate is about {stated[:16]}...")
        facts = cert["checkpoint"]["facts"]
        _require(source.facts == facts, f"checkpoint: config.json says {source.facts}, the certificate {facts}")
        semantics, self.adapter = cert["claim"]["semantics"], cert["adapter"]
        self.model = self.read_out(source, semantics)
        fits = len(self.task.lengths) > 0 and self.model.fits(used["max_length"], max(self.offsets))
        _require(fits, "spec: max_length and offsets do not fit the network's positions and tokens, or min_length")
        self.lets = parse(cert["program"])
        fits = self.adapter in adapters(self.task) and is_defined(self.lets, self.adapter)
        _require(fits, f"adapter {self.adapter!r} does not fit the spec's read-out or the program's outputs")
        self.sizes = {length: self.task.strings.size(length) for length in self.task.lengths}
        self.claimed = [_decimal(cert["claim"][name]) for name in _COUNTS]
        self.bound = cert["numerics"]["error_bound"]
        self.boxes: list[dict[str, Any]] = cert.get("boxes", [])
        fits = not self.boxes or (isinstance(source, Weights) and is_bounded(self.task, source))
        _require(fits, "boxes: bounds are for one layer, or two with norms and an MLP, one choice or labels")
        self.unproved: list[tuple[int, int, dict[str, Any] | None]] = []
        self.errors: list[tuple[int, int, float]] = []
        self.n_differ = self.n_leaves = 0
        self.listed: list[tuple[int, int, int]] = []
        self.n_done = self.n_whole = self.n_doubts = 0

    def read_out(self, source: Weights | TableRows, semantics: Any) -> Model | TableAnswers:
        """Return the model as the task reads it, with numbers of the semantics claimed."""
        if isinstance(source, TableRows):
            _require(semantics == "exact", f"claim: semantics {semantics!r}, but a table's answers are exact")
            return TableAnswers(self.task, source)
        if semantics not in ("real", "f32-any-order"):
            raise Unreadable(f"semantics {semantics!r} depends on one kernel, which the checker does not have")
        return Model(self.task, forward_of(source, DOUBLE if semantics == "real" else SINGLE))

    def reject(self, holds: bool, reason: str) -> None:
        """Note a reason, on one line, unless the condition holds."""
        if not holds:
            self.reasons.append(" ".join(reason.split()))

    def doubt(self, reason: str) -> None:
        """Note a reason that contradicts nothing: our own bound on the rounding error is above a margin."""
        self.n_doubts += 1
        self.reasons.append(" ".join(reason.split()))

    def run(self, seed: bytes, budget: float, progress: Any) -> CheckResult:
        """Check the numbers, the exceptions, then the regions; or what another method has instead of regions."""
        method = self.cert.get("method", "enumeration")
        if method == "separable":
            return self.separable(progress)
        if method != "enumeration":
            raise Unreadable(f"method {method!r} is not one the checker knows")
        self.numbers()
        if not self.reasons:
            self.exceptions()
            chosen = self.choose(
                seed, min(budget, max(1 << 14, _WORK // self.model.work)) if budget < math.inf else budget
            )
            for region, start, stop in chosen:
                if len(self.reasons) < 20:
                    self.region(region, start, stop)
                if progress is not None:
                    progress.advance(self.n_done, sum(stop - start for _, start, stop in chosen), "inputs")
            for number, entry in enumerate(self.boxes):
                self.box(entry)
                if progress is not None:
                    progress.advance(number + 1, len(self.boxes), "lengths")
        how = "slices, whose digests cannot be computed"
        if self.n_whole or not self.n_done:
            how = f"{self.n_whole} of {len(self.regions)} regions whole, with digests"
        coverage = f"re-evaluated {self.n_done} of {self.cert['claim']['inputs_total']} inputs ({how})"
        if self.boxes:
            coverage += f"; bounded again {self.n_leaves} boxes of {len(self.boxes)} lengths"
        facts = (coverage, self.n_done, self.n_whole, tuple(self.unproved))
        return CheckResult(not self.reasons, tuple(self.reasons), *facts, self.n_doubts, tuple(self.errors))

    def box(self, entry: dict[str, Any]) -> None:
        """Check a length decided box by box again; what we cannot confirm is unproved, and no reason to think worse."""
        n_before, unproved, rest = len(self.reasons), "", None
        if not isinstance(self.model, Model):
            raise Unreadable("boxes speak of a network, and this is a table")
        try:
            check = BoxCheck(self.task, self.model, self.lets, entry, self.reasons)
            check.run()
            self.n_leaves += check.n_leaves
            unproved, rest = ", ".join(check.unproved[:3]), check.rest
            if not unproved and len(self.reasons) == n_before and check.error > entry.get("error_bound", math.inf):
                self.errors.append((entry["length"], entry["offset"], check.error))
                self.doubt(f"{check.place}: their error by our own bounds is {check.error}, above the one stated")
        except Unreadable as error:
            unproved = str(error)
        if unproved and len(self.reasons) == n_before:
            self.unproved.append((entry["length"], entry["offset"], rest))
            self.reject(False, f"boxes of length {entry['length']}: not confirmed by our own bounds: {unproved}")

    def separable(self, progress: Any) -> CheckResult:
        """Check a claim made class by class: every class is counted and bounded again, and the status follows."""
        is_alone = self.regions == [] and self.boxes == []
        _require(is_alone, "method: no regions or boxes")
        if not isinstance(self.model, Model):
            raise Unreadable("method 'separable' speaks of a network, and this is a table")
        found = Separable(self.task, self.model, self.lets, self.adapter, self.cert)
        self.reasons += found.reasons(progress)
        total, size = _decimal(self.cert["claim"]["inputs_total"]), sum(self.sizes.values()) * len(self.offsets)
        sums = [found.agree, found.disagree, size - found.agree - found.disagree]
        self.reject(total == size, f"claim: inputs_total is {total}, the domain has {size} inputs")
        self.reject(sums == self.claimed, f"claim: {', '.join(_COUNTS)} are {self.claimed}, the classes say {sums}")
        status, listed = self.cert["claim"]["status"], len(self.cert["exceptions"])
        is_right = status in statuses(*sums) and (listed > 0) == (sums[1] > 0)
        self.reject(is_right, f"claim: status {status!r} with {listed} exceptions does not follow from {sums}")
        coverage = f"bounded {found.agree + found.disagree} of {size} inputs again, in {found.n_classes} classes"
        n_done = found.agree + found.disagree
        return CheckResult(not self.reasons, tuple(self.reasons), coverage, n_done, n_doubts=found.n_doubts)

    def numbers(self) -> None:
        """Check that the regions cut the domain rightly and that every sum and the status follow from them."""
        total, numerics = _decimal(self.cert["claim"]["inputs_total"]), self.cert["numerics"]
        size, sums, last, end = sum(self.sizes.values()) * len(self.offsets), [0, 0, 0], (-1, -1, -1), 0
        self.reject(total == size, f"claim: inputs_total is {total}, the domain has {size} inputs")
        for r in self.regions:
            counts, start, stop = [r[name] for name in _COUNTS], r["start"], r["stop"]
            _require(are_counts(*counts, start, stop, r["length"], r["offset"]), f"region {r}: not made of counts")
            whole = min(start + _REGION, self.sizes.get(r["length"], 0))
            key = (self.offsets.index(r["offset"]) if r["offset"] in self.offsets else -1, r["length"], start)
            is_cut = key > last and key[0] >= 0 and start % _REGION == 0 and start < stop <= whole
            is_cut = is_cut and (start == end if key[:2] == last[:2] else start == 0)
            self.reject(is_cut, f"{_place(r)}: not a cut of the domain, or out of order")
            self.reject(sum(counts) == stop - start, f"{_place(r)}: its counts add up to {sum(counts)}")
            is_finite = counts[0] + counts[1] > 0 and not self.model.is_endless(r["length"])
            is_margin = type(r["min_margin"]) is float and r["min_margin"] > 0 if is_finite else r["min_margin"] is None
            # inputs that differ in one cell and leave another open have no margin
            is_margin = is_margin or (r["min_margin"] is None and counts[0] == 0)
            self.reject(is_margin, f"{_place(r)}: min_margin {r['min_margin']} does not go with its counts")
            sums, last, end = [a + b for a, b in zip(sums, counts, strict=True)], key, stop
        self.n_differ, fragile, taken = sums[1], sums[2], {(r["length"], r["offset"]) for r in self.regions}
        for entry in self.boxes:
            pair, counts = (entry["length"], entry["offset"]), [_decimal(entry[name]) for name in _COUNTS]
            is_new = are_counts(*pair) and pair not in taken and pair[1] in self.offsets
            fits = is_new and sum(counts) == self.sizes.get(pair[0], -1)
            self.reject(fits, f"boxes of length {pair[0]}, offset {pair[1]}: there twice, or not all its inputs")
            taken.add(pair)
            sums = [a + b for a, b in zip(sums, counts, strict=True)]
        parts = [*self.regions, *self.boxes]
        least = min((r["min_margin"] for r in parts if r["min_margin"] is not None), default=None)
        is_right = numerics["min_margin"] == least and numerics["n_fragile"] == fragile and type(self.bound) is float
        self.reject(is_right and self.bound >= 0, f"numerics: least margin {least}, {fragile} fragile by the regions")
        sums[2] += size - sum(sums)
        self.reject(sums == self.claimed, f"claim: {', '.join(_COUNTS)} are {self.claimed}, the regions say {sums}")
        status = self.cert["claim"]["status"]
        self.reject(status in statuses(*sums), f"claim: status {status!r} does not follow from {sums}")
        fits = cells_fit(self.cert, self.task.at, self.sizes, len(self.offsets))
        self.reject(fits, "claim: its cells, one per input and position, do not follow from those of the regions")

    def exceptions(self) -> None:
        """Replay every listed exception; note their places in the enumeration."""
        listed, letter = self.cert["exceptions"], {self.task.names[t]: i for i, t in enumerate(self.task.alphabet)}
        expected = min(self.n_differ, _LISTED)
        self.reject(len(listed) == expected, f"exceptions: {len(listed)} are listed, expected {expected}")
        for n, entry in enumerate(listed):
            letters, offset = [letter.get(name, -1) for name in entry["tokens"]], entry["offset"]
            is_input = len(letters) in self.task.lengths and -1 not in letters and offset in self.offsets
            rank = self.task.strings.rank(letters) if is_input else -1
            key = (self.offsets.index(offset) if is_input else -1, len(letters), rank)
            right = rank >= 0 and (not self.listed or key > self.listed[-1])
            _require(right, f"exception {n}: {entry['tokens']} is not an input, or out of order")
            self.listed.append(key)
        rest = list(listed)
        for (o, length), keys in groupby(self.listed, lambda key: key[:2]):
            ranks = np.array([rank for _, _, rank in keys], np.int64)
            entries, rest = rest[: len(ranks)], rest[len(ranks) :]
            for model, program, margin, bound, sure, entry in zip(
                *self.evaluate(ranks, length, self.offsets[o]), entries, strict=True
            ):
                shown = [[self.task.name(int(c)) for c in cells if c != ABSENT] for cells in (model, program)]
                # a cell that the certificate leaves open says nothing, and cannot be what differs
                stated = np.array([name is not None for name in entry["model"]], bool)
                told = [name if name is not None else mine for name, mine in zip(entry["model"], shown[0], strict=True)]
                apart = model != program
                apart[: len(stated)] &= stated
                right = shown == [told, entry["program"]] and bool(apart.any())
                self.reject(right, f"exception {entry['tokens']}: replays as model {shown[0]}, program {shown[1]}")
                if right and not (apart & sure).any():
                    self.doubt(f"exception {entry['tokens']}: its margin {margin} is within our rounding bound {bound}")

    def evaluate(self, ranks: Ints, length: int, offset: int) -> tuple[Ints, Ints, Any, Any, Any]:
        """Return the model's and the program's cells of inputs of one length, the model's margins, bounds, and which of
        its cells are decided."""
        parts, width = [], self.model.width(length, offset)
        spare = int(self.task.at == "generate" and not self.task.max_new)
        for some in np.array_split(ranks, -(-len(ranks) // self.model.rows(length, offset))):
            tokens = self.task.alphabet[self.task.strings.letters(length, some)]
            program = program_answers(self.task, self.lets, self.adapter, tokens, width + spare)
            model, margin, bound, sure = self.model.answers(tokens, offset, program)
            model = np.pad(model, ((0, 0), (0, spare)), constant_values=ABSENT)
            sure = np.column_stack([sure, *[margin > bound] * spare])
            parts.append((model, program, margin, bound, sure))
        model, program, margin, bound, sure = (np.concatenate(column) for column in zip(*parts, strict=True))
        return model, program, margin, bound, sure

    def inside(self, r: dict[str, Any], start: int, stop: int) -> list[int]:
        """Return the ranks of the exceptions listed among some ranks of a region."""
        place = (self.offsets.index(r["offset"]), r["length"])
        return [rank for *where, rank in self.listed if tuple(where) == place and start <= rank < stop]

    def choose(self, seed: bytes, budget: float) -> list[tuple[dict[str, Any], int, int]]:
        """Choose what to evaluate: everything within the budget in inputs, else by hash; first and last always."""
        sizes = [r["stop"] - r["start"] for r in self.regions]
        if sum(sizes) <= budget:
            return [(r, r["start"], r["stop"]) for r in self.regions]
        drawn = [int.from_bytes(hashlib.sha256(b"%s%d" % (seed, i)).digest()[:8], "big") for i in range(len(sizes))]
        needed = [bool(self.inside(r, r["start"], r["stop"])) for r in self.regions]
        needed[0] = needed[-1] = True
        share, chosen, left = int(min(_REGION, max(64, budget // sum(needed)))), [], budget
        for i in sorted(range(len(sizes)), key=lambda i: (not needed[i], drawn[i])):
            size = min(share, sizes[i])
            if needed[i] or size <= left:
                start = self.regions[i]["start"] + drawn[i] % (sizes[i] - size + 1)
                chosen.append((self.regions[i], start, start + size))
                left -= size
        return chosen

    def region(self, r: dict[str, Any], start: int, stop: int) -> None:
        """Evaluate some ranks of a region again and compare everything that is claimed about them."""
        ranks, place = np.arange(start, stop), _place({**r, "start": start, "stop": stop})
        model, program, margin, bound, sure = self.evaluate(ranks, r["length"], r["offset"])
        decided, differs = sure.all(axis=1), ((model != program) & sure).any(axis=1)
        found, least = ranks[differs].tolist(), float(margin[decided].min(initial=math.inf))
        fragile, agree = int((~decided & ~differs).sum()), int((decided & ~differs).sum())
        slack = (
            float(bound[decided].max(initial=0.0)) + 1e-6 * least + min(self.bound, 0.01 * (1 + least))
            if least < math.inf
            else 0.0
        )
        claimed = math.inf if r["min_margin"] is None else r["min_margin"]
        self.n_done += stop - start
        text = f"{place}: {fragile} margins are within the rounding bound, {r['undecided']} counted undecided"
        if fragile > r["undecided"]:
            self.doubt(text)
            return
        text = f"{place}: the least margin is {least}, claimed {r['min_margin']}"
        self.reject(claimed <= least + slack or r["agree"] + r["disagree"] == 0, text)
        listed, certain = self.inside(r, start, stop), found
        if self.n_differ > _LISTED:
            offset = self.offsets.index(r["offset"])
            certain = [rank for rank in found if (offset, r["length"], rank) <= self.listed[-1]]
        is_listed = listed == certain or (r["undecided"] > 0 and set(listed) <= set(certain))
        wrong = sorted(set(listed) ^ set(certain))[:1]
        self.reject(is_listed, f"{place}: the exceptions listed are not those found, first at rank {wrong}")
        if (start, stop) != (r["start"], r["stop"]):
            text = f"{place}: {agree} agree and {len(found)} differ, more than the whole region claims"
            self.reject(len(found) <= r["disagree"] + r["undecided"] and agree <= r["agree"] + r["undecided"], text)
            return
        self.n_whole += 1
        doubtful = int((~(margin > _LOOSER * bound + self.bound)).sum())  # a bound that is no number decides nothing
        is_counted = agree >= r["agree"] and len(found) >= r["disagree"] and r["undecided"] <= doubtful
        text = f"{place}: {agree} agree and {len(found)} differ, claimed {r['agree']} and {r['disagree']}"
        self.reject(is_counted, text)
        if "cells" in r:
            cells = count_cells(model, program, sure)
            # the same answers open, or one of us has the looser bounds; then every other count must be the same
            is_same, text = cells["undetermined"] == r["cells"]["undetermined"], f"{place}: its cells are {cells}"
            self.reject(cells == r["cells"] or not is_same, f"{text}, claimed {r['cells']}")
            if not is_same:
                self.doubt(f"{text}, not those claimed")
        if fragile == r["undecided"] and least < math.inf:
            self.reject(claimed >= least - slack, f"{place}: the least margin is {least}, claimed {claimed}")
        rows = model[:, : self.model.width(r["length"], r["offset"])].astype("<i4")
        digest = hashlib.sha256(rows.tobytes()).hexdigest()
        self.reject(
            digest == r["digest"] or not decided.all(), f"{place}: the model's answers have digest {digest[:16]}..."
        )


def _place(r: dict[str, Any]) -> str:
    return f"region of length {r['length']}, offset {r['offset']}, ranks {r['start']} to {r['stop']}"
