"""The result as a person reads it: a few lines, most important first, the same facts as the result JSON."""

from __future__ import annotations

from collections.abc import Iterable

from rich.text import Text

from extract.report.report import CheckReport, Count, CounterexamplePart, ProgramPart, Report, number
from extract.report.screen import grouped

HEADLINES = {
    "proved": ("PROVED", "bold green", "on every input of the domain"),
    "proved_except": ("PROVED EXCEPT", "bold yellow", "on every input of the domain but those counted here"),
    "refuted": ("REFUTED", "bold red", "the program differs from the model"),
    "no_program": ("NO PROGRAM", "bold red", "no program of the language matches the model up to the cost searched"),
    "undecided": ("UNDECIDED", "bold yellow", "not every input of the domain was decided"),
    "error": ("ERROR", "bold red", ""),
}
_SEMANTICS = {
    "real": "real arithmetic",
    "exact": "answers looked up, nothing rounded",
    "f32-any-order": "real arithmetic; float32 in any order of summation",
    "f32-ref": "float32 in the reference order",
}
_LISTED = 5


def fact_lines(facts: Iterable[tuple[str, str]]) -> list[Text]:
    """Return labelled facts, one a line; a line without a label continues the one above."""
    return [Text.assemble((f" {label:<11} ", "cyan"), value) for label, value in facts]


def check_lines(report: CheckReport) -> list[Text]:
    """Return the screen of a re-check."""
    word, style = (" ACCEPTED  ", "bold green") if report.accepted else (" REJECTED  ", "bold red")
    if report.undecided:
        word, style = " NOT CONFIRMED  ", "bold yellow"
    lines = [Text.assemble((word, style), report.coverage)]
    return lines + [Text(f"   {reason}") for reason in report.reasons]


def result_lines(report: Report, next_command: str | None = None) -> list[Text]:
    """Return the screen of a result, without what was already said while it ran."""
    lines = [*_subject_lines(report), *_verdict_lines(report)]
    for rank, program in enumerate(report.programs[1:], start=2):
        lines += _other_program_lines(rank, program)
    lines += _counterexample_lines(report)
    lines += [Text(f" warning {warning}", "yellow") for warning in report.warnings]
    if report.certificate is not None and report.certificate.file is not None:
        seconds = report.run.seconds.get("check")
        duration = f" in {seconds:.1f}s" if seconds is not None else ""
        checked = f"re-checked{duration}" if report.certificate.checked else "not re-checked"
        lines.append(_row("certificate", f"{report.certificate.file}, {checked}"))
    if next_command is not None:
        lines.append(Text(f" next: {next_command}", "dim"))
    return lines


def architecture_text(report: Report) -> str:
    """Return the checkpoint's architecture in a few words."""
    model = report.model
    if model is None:
        return ""
    a = model.arch
    words = [model.format]
    if "n_layers" in a:
        words += [_plural(a["n_layers"], "layer"), _plural(a["n_heads"], "head"), f"d={a['d_model']}"]
    if "n_rows" in a:
        words += [f"{grouped(a['n_rows'])} rows", model.dtype]
    else:
        words += [f"{_short(model.params)} params", model.dtype]
    return " · ".join(words)


def domain_text(report: Report) -> str:
    """Return the domain in a line: alphabet, lengths, offsets, promise."""
    if report.task is None:
        return ""
    domain = report.task.domain
    shown = domain.alphabet if len(domain.alphabet) <= 12 else (*domain.alphabet[:10], "...", domain.alphabet[-1])
    lengths = (
        f"length {domain.min_length}"
        if domain.min_length == domain.max_length
        else f"length {domain.min_length}-{domain.max_length}"
    )
    parts = ["{" + ",".join(shown) + "}", lengths]
    if domain.offsets != (0,):
        parts.append(f"{len(domain.offsets)} offsets {domain.offsets[0]}-{domain.offsets[-1]}")
    if domain.promise:
        parts.append(domain.promise)
    return ", ".join(parts)


def _subject_lines(report: Report) -> list[Text]:
    lines: list[Text] = []
    if report.model is not None:
        lines.append(_row("model", f"{architecture_text(report)}   sha256 {report.model.sha256[:12]}"))
    if report.task is not None:
        domain = report.task.domain
        bound = "" if domain.size_is_exact else "at most "
        lines.append(_row("domain", f"{domain_text(report)}   {bound}{_count(domain.size)} inputs"))
    if report.search is not None:
        held = [_property_text(name) for name, holds in report.search.properties.items() if holds]
        if held:
            lines.append(_row("properties", " · ".join(held)))
    return lines


def _property_text(name: str) -> str:
    """Return a property in words; a term that it names keeps its spelling."""
    words, space, term = name.partition(" ")
    return words.replace("_", " ") + space + term


def _verdict_lines(report: Report) -> list[Text]:
    word, style, _ = HEADLINES[report.status]
    if report.error is not None:
        hint = f" (hint: {report.error.hint})" if report.error.hint else ""
        return [Text.assemble((f" {word}  ", style), f"{report.error.message}{hint}")]
    semantics = f"      ({_SEMANTICS[report.numerics.semantics]})" if report.numerics is not None else ""
    lines = [Text.assemble((f" {word}  ", style), sentence_of(report), (semantics, "dim"))]
    if report.programs:
        lines += _program_lines(report.programs[0])
    verdict = report.verdict
    if verdict is not None and report.status != "proved":
        parts = [f"{_count(verdict.agree)} agree", f"{_count(verdict.disagree)} differ"]
        if number(verdict.undecided):
            parts.append(f"{_count(verdict.undecided)} undecided")
        lines.append(Text(f"   {' · '.join(parts)} of {_count(verdict.inputs_total)} inputs"))
        lines += _cell_lines(report)
    if report.budget_hit is not None:
        lines.append(Text(f"   reason: {report.budget_hit}"))
    if report.numerics is not None:
        lines.append(Text(f"   {_numerics_text(report)}", "dim"))
    if report.search is not None and report.search.unique_to_cost is not None:
        lines.append(Text(f"   unique up to cost {report.search.unique_to_cost} on this domain", "dim"))
    return lines


def sentence_of(report: Report) -> str:
    """Return what the status of a result means here, in a sentence."""
    verdict = report.verdict
    if report.status == "undecided" and verdict is not None and report.programs:
        if number(verdict.disagree) and number(verdict.undecided):
            return "differences were found, and not every input was decided"
        if number(verdict.disagree):
            return "no program found is right on all inputs, or on all but 1 %: this comes closest"
        return apart_from_ties(report) or "no difference found, and not every input was decided"
    return HEADLINES[report.status][2]


def apart_from_ties(report: Report) -> str | None:
    """Return what is known of a program that no determined answer contradicts, where ties alone leave it undecided."""
    verdict, numerics = report.verdict, report.numerics
    cells = verdict.cells if verdict is not None else None
    if report.status != "undecided" or verdict is None or numerics is None or cells is None or not report.programs:
        return None
    if number(cells.disagree) or not number(cells.agree):
        return None
    if number(numerics.fragile_count) != number(verdict.undecided):
        return None
    where = f" ({cells.where})" if cells.where else ""
    return (
        f"every determined answer agrees: {_count(cells.agree)} of {_count(cells.total)}; "
        f"the other {_count(cells.undetermined)} are tied or too close to tell{where}"
    )


def _cell_lines(report: Report) -> list[Text]:
    """Return the counts of single answers and the positions of the undetermined ones, unless the first line has both;
    nothing where an input has one answer."""
    cells = report.verdict.cells if report.verdict is not None else None
    if cells is None or not cells.positions or (cells.where and apart_from_ties(report)):
        return []
    parts = [f"{_count(cells.agree)} agree", f"{_count(cells.disagree)} differ"]
    counts = " · ".join([*parts, f"{_count(cells.undetermined)} undetermined"])
    shown = cells.positions[:_LISTED]
    places = ", ".join(f"{p.position} ({_count(p.undetermined)} of {_count(p.cells)})" for p in shown)
    more = f" and {len(cells.positions) - len(shown)} more" if len(cells.positions) > len(shown) else ""
    where = cells.where or f"at positions {places}{more}"
    return [Text(f"   {counts} of {_count(cells.total)} answers, undetermined: {where}")]


def _numerics_text(report: Report) -> str:
    numerics = report.numerics
    if numerics is None:
        return ""
    parts = []
    if numerics.min_margin is not None:
        parts.append(f"least margin {numerics.min_margin:.2g}")
    if numerics.error_bound is not None:
        parts.append(f"error bound {numerics.error_bound:.1g}")
    return " · ".join([*parts, f"{_count(numerics.fragile_count)} fragile"])


def _program_lines(program: ProgramPart) -> list[Text]:
    lines = [Text(f"   {line}", "bold") for line in program.text.splitlines()]
    label = f"cost {program.cost}" + (f", {program.dialect}" if program.dialect else "")
    if len(lines) == 1:
        lines[0].append(f"      {label}", "dim")
    else:
        lines.append(Text(f"   {label}", "dim"))
    if program.status == "proved_except" and program.exceptions is not None:
        listed = program.exceptions.inputs or ()
        shown = [_input_text(item.tokens, item.offset) for item in listed[:_LISTED]]
        more = number(program.exceptions.count) - len(shown)
        tail = f" and {grouped(more)} more" if more else ""
        lines.append(Text(f"   except on {'; '.join(shown)}{tail}"))
    return lines


def _other_program_lines(rank: int, program: ProgramPart) -> list[Text]:
    head = Text.assemble((f" {rank}. ", "bold"), f"{program.status.replace('_', ' ')}, cost {program.cost}")
    return [head, *(Text(f"   {line}") for line in program.text.splitlines())]


def _counterexample_lines(report: Report) -> list[Text]:
    if report.status == "proved_except":
        return []
    lines = [_counterexample_line(item) for item in report.counterexamples[:_LISTED]]
    more = len(report.counterexamples) - len(lines)
    return lines + ([Text(f"   and {more} more listed in the JSON result")] if more > 0 else [])


def _counterexample_line(item: CounterexamplePart) -> Text:
    model, program = " ".join(item.model) or "(empty)", " ".join(item.program) or "(empty)"
    margin = f", margin {item.margin:.2g}" if item.margin is not None else ""
    kind = ", minimal" if item.minimal else ""
    return Text(f"   on {_input_text(item.tokens, item.offset)} the model says {model}, the program {program}"
                f"{margin}{kind}")  # fmt: skip


def _input_text(tokens: tuple[str, ...], offset: int) -> str:
    text = " ".join(tokens) if tokens else "(empty)"
    return text + (f" at offset {offset}" if offset else "")


def _row(label: str, text: str) -> Text:
    return fact_lines([(label, text)])[0]


def _count(n: Count) -> str:
    return grouped(number(n))


def _plural(n: int, noun: str) -> str:
    return f"{n} {noun}" + ("" if n == 1 else "s")


def _short(n: int) -> str:
    for size, suffix in ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")):
        if n >= size:
            return f"{n / size:.1f} {suffix}"
    return str(n)
