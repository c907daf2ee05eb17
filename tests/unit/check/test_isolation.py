"""The checker stands alone: numpy, safetensors and the standard library, nothing else of the package, and small."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SOURCES = sorted((ROOT / "extract" / "check").glob("*.py"))
#: Lines that hold code: blank lines, comments and docstrings are not counted. Reading, the language, the forward pass
#: and the check of enumerations take 1250, tables 100; a method of proof adds its own bounds: attention alone 310,
#: boxes 700, memory states and the bounds of two layers 370; telling a doubt from a contradiction takes 15; a network
#: of every architecture and its neutral file 140, its forward pass with bounds entry by entry and answers decided in
#: some cells 190; torch files and NumPy archives take 265; the layouts of other projects and what is said beside their
#: tensors 560; numbers, whole or fractions, 60; bounds for what underflows 15; single answers counted by
#: position 30; the errors of single precision over whole sets, beside the bounds of boxes and classes, 250; strings
#: divided by partial sums, their cells made, counted, ranged and bounded again, 185; what is confirmed of a length that
#: is not in all 15; numbers that leave the language's range refused 10; what Welford's update is off by, summed step by
#: step, 8.
MAX_CODE_LINES = 1250 + 100 + 310 + 700 + 370 + 15 + 140 + 190 + 265 + 560 + 60 + 15 + 30 + 250 + 185 + 15 + 10 + 8


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            yield node.module or ""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_it_imports_nothing_else(path: Path) -> None:
    allowed = {"numpy", "safetensors"} | set(sys.stdlib_module_names)
    for name in imported(path):
        assert name.startswith("extract.check.") or name.split(".")[0] in allowed, name


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_it_executes_no_text(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("eval", "exec", "compile", "__import__", "getattr", "open")
    assert not {"pickle", "marshal", "importlib", "subprocess", "ctypes"} & set(imported(path))


def test_importing_it_loads_nothing_else() -> None:
    code = "import extract.check.check, sys; print('\\n'.join(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    package = {name for name in loaded if name.split(".")[0] == "extract"}
    assert package <= {"extract"} | {f"extract.check.{p.stem}" for p in SOURCES} | {"extract.check"}
    assert not {"torch", "z3", "sympy", "msgspec", "click", "rich", "scipy"} & {name.split(".")[0] for name in loaded}


def test_it_is_small() -> None:
    assert sum(map(code_lines, SOURCES)) <= MAX_CODE_LINES


def code_lines(path: Path) -> int:
    """The lines of a file that hold code."""
    text = path.read_text(encoding="utf-8")
    silent = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in silent:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)
