"""Proofs beyond enumeration, measured: inputs decided, time to prove and to check again, size of the certificate.

Every row verifies a program somebody could have written, end to end: bounds, certificate, and the independent checker,
which must accept before anything is called proved. Where plain batched enumeration (float32 torch, one core) cannot
run, its time is extrapolated from its speed on inputs of the longest length, and the ratio says how much longer it
would take.
Rows on checkpoints that are not there are left out and named; those of many letters, and the rate of enumerating two
layers, are of networks of ``made_networks``, made by hand or at random. Nothing here is imported by the tool.

    python benchmarks/verification.py [--only majority] [--checkpoints ../shared/checkpoints/drasp]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import msgspec
import numpy as np
import torch

from benchmarks.made_networks import MORE_A, two_layers, write_more_a
from extract.domain import Domain, build_domain
from extract.lang.promise import compile_promise
from extract.model.forward import Forward
from extract.pipeline import VerifyRequest, verify_program
from extract.progress import Silent
from extract.report.report import Report
from extract.spec import TaskSpec
from extract.stages_load import load_subject
from extract.verify.enumerate import enumerate_model

ROOT = Path(__file__).resolve().parents[1]
MAJORITY = "output = '0' if count(tokens == '1') < count(tokens == '0') else '1'"
D2 = """output['a'] = length // 2 == count(tokens == 'b')
output['b'] = length // 2 < count(tokens == 'a')
output['<bos>'] = False
output['<sep>'] = False
output['<eos>'] = count(tokens == 'a') == length // 2
output['<pad>'] = False"""
D4 = D2.replace("length // 2 == count(tokens == 'b')", "-3 <= length - count(tokens == 'a') * 2")
LAST_NON_2 = """output['0'] = True
output['1'] = True
output['2'] = True
output['<bos>'] = False
output['<sep>'] = False
output['<eos>'] = last(select(tokens, '2', '<'), tokens) == '0'
output['<pad>'] = False"""
AB_D_BC = """ever = any(tokens == 'd')
output['a'] = not ever
output['b'] = True
output['c'] = ever
output['d'] = not ever
output['<bos>'] = False
output['<sep>'] = False
output['<eos>'] = ever
output['<pad>'] = False"""
#: Inputs that the plain passes are timed on.
N_PLAIN, BATCH = 4096, 512


@dataclass(frozen=True)
class Row:
    """One line: a checkpoint (a folder of ours, or the one folder elsewhere that a word names), program and length; the
    spec's promise is left out where it says so, and the least length is the row's."""

    name: str
    word: str
    program: str
    max_length: int | None
    min_length: int | None = None
    is_ours: bool = False
    n_letters: int = 0
    is_promised: bool = True

    def folder(self, elsewhere: Path, made: Path) -> Path | None:
        """Return the checkpoint's folder, made here if it has a number of letters, None where it is not at hand."""
        if self.n_letters and self.max_length is not None:
            return write_more_a(made / f"{self.n_letters} letters", self.n_letters, self.max_length)
        if self.is_ours:
            return ROOT / "benchmarks" / "checkpoints" / self.word
        found = sorted(elsewhere.glob(f"*{self.word}*")) if elsewhere.is_dir() else []
        return found[0] if found else None


ROWS = (
    Row("majority, lengths 1-46", "bin_majority-best", MAJORITY, 46),
    Row("majority, lengths 1-50", "bin_majority-best", MAJORITY, 50),
    Row("brackets, depth 2, to length 50", "bce_D2", D2, 50),
    Row("brackets, depth 4, to length 50", "bce_D4", D4, 50),
    Row("majority, length 100 alone", "bin_majority-best", MAJORITY, 100, 100),
    Row("majority and ties, length 64 alone", "bin_majority-best", MAJORITY, 64, 64, is_promised=False),
    Row("majority and ties, length 80 alone", "bin_majority-best", MAJORITY, 80, 80, is_promised=False),
    Row("last non-2 is a 0, length 20 alone", "bce_012_0_2", LAST_NON_2, 20, 20),
    Row("(a|b)*d(b|c)*, to length 40", "bce_ab_d_bc", AB_D_BC, 40),
    Row("max of ten below 64", "max_of_10", "output = max_over(everywhere, tokens)", None, is_ours=True),
    Row("more a's than b's of 4, length 20", "", MORE_A, 20, n_letters=4),
    Row("(a|b)*d(b|c)*, length 20 alone", "bce_ab_d_bc", AB_D_BC, 20, 20),
    Row("more a's than b's of 5, length 20", "", MORE_A, 20, n_letters=5),
    Row("more a's than b's of 6, length 20", "", MORE_A, 20, n_letters=6),
)
#: The length of two letters that two layers are enumerated at.
ENUMERATED = 18


@dataclass(frozen=True)
class Measured:
    """What a row took: processor seconds of proof and check together, bytes of the certificate (0: none)."""

    row: Row
    report: Report
    seconds: float
    n_bytes: int
    plain_rate: float

    def line(self) -> str:
        """Return the row of the table."""
        verdict = self.report.verdict
        total = int(verdict.inputs_total) if verdict is not None else 0
        agree, differ, undecided = (
            (int(verdict.agree), int(verdict.disagree), int(verdict.undecided)) if verdict is not None else (0, 0, 0)
        )
        ratio = total / self.plain_rate / self.seconds
        return (
            f"{self.row.name:34} {self.report.status:9} {total:>28,} inputs  {agree:,} agree  {differ:,} differ  "
            f"{undecided:,} undecided  {self.seconds:7.1f} s  {self.n_bytes:>8,} bytes  {ratio:.1e} times plain"
        )


def plain_rate(forward: Forward, domain: Domain, length: int) -> float:
    """Return inputs per second of plain batched passes over inputs of one length."""
    size = min(N_PLAIN, domain.size_at(length))
    prompts = torch.from_numpy(domain.render(domain.tokens(length, 0, size)).astype(np.int64))
    read = domain.read_positions(length)
    since = time.process_time()
    for start in range(0, size, BATCH):
        forward.logits(prompts[start : start + BATCH], 0, read)
    return size / (time.process_time() - since)


def spec_of(row: Row, folder: Path, made: Path) -> Path:
    """Return the checkpoint's spec, or a copy with the row's least length, written to a folder of ours."""
    if row.min_length is None:
        return folder / "spec.toml"
    lines = (folder / "spec.toml").read_text().splitlines()
    changed = ("min_length", "max_length") if row.is_promised else ("min_length", "max_length", "where")
    kept = [line for line in lines if not line.startswith(changed)]
    at = kept.index("[domain]") + 1
    path = made / "spec.toml"
    lengths = [f"min_length = {row.min_length}", f"max_length = {row.max_length}"]
    path.write_text("\n".join([*kept[:at], *lengths, *kept[at:]]))
    return path


def measure(row: Row, folder: Path) -> Measured:
    """Verify one row's program and time plain passes over its longest inputs."""
    with tempfile.TemporaryDirectory() as made:
        spec = spec_of(row, folder, Path(made))
        subject = load_subject(folder, spec, row.max_length, None)
        longest = max(n for n in subject.domain.lengths if subject.domain.size_at(n))
        rate = plain_rate(Forward(subject.checkpoint.network, "float32"), subject.domain, longest)
        certificate = Path(made) / "row.cert.json"
        request = VerifyRequest(
            checkpoint=folder, program=row.program, spec=spec, max_length=row.max_length, method="bounds",
            certificate=certificate,
        )  # fmt: skip
        since = time.process_time()
        report = verify_program(request)
        seconds = time.process_time() - since
        n_bytes = certificate.stat().st_size if certificate.exists() else 0
    return Measured(row, report, seconds, n_bytes, rate)


def measured(rows: tuple[Row, ...], elsewhere: Path, only: str) -> Iterator[str]:
    """Yield the lines of the table."""
    for row in rows:
        if only not in row.name:
            continue
        with tempfile.TemporaryDirectory() as made:
            folder = row.folder(elsewhere, Path(made))
            missing = f"{row.name:34} left out: no such checkpoint here"
            yield measure(row, folder).line() if folder is not None else missing
    if only in "two layers enumerated":
        yield enumerated()


def enumerated() -> str:
    """Enumerate a random network of two layers; return the line of its rate, of two cores twice that of one."""
    raw = {
        "version": 1, "name": "every string", "tokens": {"vocab": ["a", "b", "<s>", "<e>"]},
        "domain": {"alphabet": ["a", "b"], "template": "{x} <e>", "min_length": ENUMERATED, "max_length": ENUMERATED},
        "readout": {"choices": ["a", "b"]},
    }  # fmt: skip
    domain = build_domain(msgspec.convert(raw, TaskSpec), compile_promise)
    since = time.process_time()
    enumerate_model(two_layers(ENUMERATED), domain, progress=Silent())
    seconds = time.process_time() - since
    rate = 2 * 3600 * domain.size_at(ENUMERATED) / seconds
    return (
        f"{'two layers enumerated':34} {domain.size_at(ENUMERATED):,} inputs in {seconds:.1f} s of one core: "
        f"{rate:.2e} an hour on two, {rate / 2**28:.1f} times 2^28"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="rows whose name holds this")
    parser.add_argument("--checkpoints", type=Path, default=ROOT.parent / "shared" / "checkpoints" / "drasp")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for line in measured(ROWS, options.checkpoints, options.only):
        print(line, flush=True)


if __name__ == "__main__":
    main()
