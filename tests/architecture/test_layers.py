"""The layers of the design hold: who imports whom, which third party lives where, how long code may be."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted([ROOT / "cli.py", *(ROOT / "extract").rglob("*.py")])

#: The base is a line: a module may import those of a lower rank only.
BASE_RANK = {
    "errors": 0, "version": 0, "clock": 1, "progress": 1, "vocabulary": 1, "network": 1, "shards": 1, "table_model": 1,
    "spec": 2, "readout": 2, "automata": 2, "input_graph": 3, "domain": 4, "lang": 5, "hints": 6, "oracle": 6, 
    "outcome": 7, "synthesis": 8,
}  # fmt: skip
ROOMS = {"formats", "model", "search", "verify", "simplify", "report", "train", "check"}
#: The top is a line too; a stage file of the pipeline stands beside it.
TOP_RANK = {"probe": 0, "cegis": 1}
THIRD_PARTIES = {
    "torch": {"model", "train"},
    "z3": {"verify/solver.py", "verify/encode.py"},
    "sympy": {"simplify.py", "search/closed_forms.py"},
    "rich": {"report"},
    "jinja2": {"report"},
    "markupsafe": {"report"},
    "click": {"cli.py", "options.py"},
    "distributed": {"batch"},
    "cli": {"__main__.py"},
    "msgspec": {"spec.py", "report", "batch"},
}
ANYWHERE = {"numpy", "extract", "__future__"} | set(sys.stdlib_module_names)
MAX_FILE_LINES, MAX_FUNCTION_LINES = 400, 60


def place(path: Path) -> str:
    """The file's name inside ``extract``, or ``cli.py``."""
    return str(path.relative_to(ROOT)).replace("\\", "/").removeprefix("extract/")


def room(path: Path) -> str:
    return place(path).split("/")[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """Every module a file imports, those inside functions and under TYPE_CHECKING included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{place(path)}:{node.lineno} imports relatively"
            module = node.module or ""
            yield from ([f"extract.{a.name}" for a in node.names] if module == "extract" else [module])


def inner_rooms(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imported(path) if name.startswith("extract.")} - {room(path)}


def forbidden(path: Path) -> set[str]:
    """The rooms a file imports and may not."""
    here, there = room(path), inner_rooms(path)
    if here == "check":
        return there
    if here in BASE_RANK:
        return {t for t in there if BASE_RANK.get(t, 99) >= BASE_RANK[here]}
    if here in ROOMS:
        return there - set(BASE_RANK) - ({"model"} if here == "train" else set())
    if here == "probe":
        return there - set(BASE_RANK) - {"model"}
    if here == "cegis":
        return there - set(BASE_RANK) - {"probe", "search", "verify", "simplify"}
    if here == "batch":
        return there & {
            "commands",
            "commands_batch",
            "options",
            "formats",
            "model",
            "search",
            "verify",
            "probe",
            "cegis",
        }
    return there & {"batch"} if here not in ("cli", "commands_batch") else set()


@pytest.mark.parametrize("path", SOURCES, ids=place)
def test_imports_follow_the_layers(path: Path) -> None:
    assert not forbidden(path), f"{place(path)} may not import {sorted(forbidden(path))}"


@pytest.mark.parametrize("path", SOURCES, ids=place)
def test_third_parties_keep_to_their_rooms(path: Path) -> None:
    for name in {name.split(".")[0] for name in imported(path)} - ANYWHERE:
        homes = {"formats", "check", "train"} if name == "safetensors" else THIRD_PARTIES.get(name, set())
        assert {place(path), room(path)} & homes, f"{place(path)} imports {name}, which lives in {sorted(homes)}"


def test_checker_needs_nothing_of_the_package() -> None:
    for path in SOURCES:
        if room(path) == "check":
            outside = {n.split(".")[0] for n in imported(path) if not n.startswith("extract.check")}
            assert outside <= {"numpy", "safetensors"} | set(sys.stdlib_module_names), place(path)


@pytest.mark.parametrize("path", SOURCES, ids=place)
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    n_lines = text.count("\n")
    assert n_lines <= MAX_FILE_LINES, f"{place(path)} has {n_lines} lines, at most {MAX_FILE_LINES}"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{place(path)}:{node.lineno} {node.name} has {length} lines"


@pytest.mark.parametrize("path", SOURCES, ids=place)
def test_every_module_says_what_it_is(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not text.strip() or ast.get_docstring(ast.parse(text)), f"{place(path)} has no docstring"


@pytest.mark.parametrize("path", SOURCES, ids=place)
def test_no_unsafe_or_unfinished_code(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        where = f"{place(path)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec"}, f"{where} calls {node.func.id}"
            assert node.func.id != "print", f"{where} prints"
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"{where} has a bare except"
        if isinstance(node, ast.Raise) and node.exc is not None:
            assert "NotImplementedError" not in ast.unparse(node.exc), f"{where} is unfinished"
    assert not any(name.split(".")[0] == "pickle" for name in imported(path)), f"{place(path)} imports pickle"
