"""Mutants tried without reading anything twice: tests are collected once, each mutant is a child that swaps code.

A changed module is compiled, and the code of its functions and methods and its constants are put in place of those of
the module that the tests have imported. What cannot be put in place so is told apart, and is no mutant tried.
"""

from __future__ import annotations

import ast
import json
import os
import resource
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mutation.mutants import Mutant

#: The exit statuses of a child: its tests pass, one fails, the change has no place.
PASSED, FAILED, UNPLACED = 0, 1, 99


class Unplaced(Exception):
    """A change that swapping code cannot make."""


def place(mutant: Mutant, source: str) -> None:
    """Change the imported module as a mutant says. Raises: Unplaced."""
    name = mutant.path.removesuffix(".py").replace("/", ".")
    module = sys.modules[name]
    made: dict[str, Any] = {"__name__": name, "__package__": name.rpartition(".")[0], "__file__": module.__file__}
    shadow = types.ModuleType(name)
    shadow.__dict__.update(made)
    sys.modules[name] = shadow  # dataclasses look their module up
    try:
        exec(compile(mutant.text(source), str(module.__file__), "exec"), shadow.__dict__)
    except Exception as error:
        raise _Dead from error
    finally:
        sys.modules[name] = module
    if not sum(_swap(module.__dict__, shadow.__dict__, name)):
        raise Unplaced


class _Dead(Exception):
    """The module cannot even be imported."""


def _swap(old: dict[str, Any], new: dict[str, Any], module: str) -> Iterator[bool]:
    """Put new code and constants into a namespace; say for each whether that changed something."""
    for key, value in list(new.items()):
        if key.startswith("__") or key not in old:
            continue
        was = old[key]
        if isinstance(value, type) and value.__module__ == module:
            yield from _swap_class(was, value)
        elif isinstance(value, types.FunctionType) and value.__module__ == module:
            yield _swap_code(was, value)
        elif not isinstance(value, (type, types.FunctionType, types.ModuleType)) and repr(was) != repr(value):
            old[key] = value
            for other in list(sys.modules.values()):
                names = getattr(other, "__dict__", {})
                if other.__name__.split(".")[0] in ("extract", "tests") and names.get(key) is was:
                    names[key] = value
            yield True


def _swap_class(old: type, new: type) -> Iterator[bool]:
    for key, value in list(vars(new).items()):
        was = vars(old).get(key)
        pairs: list[tuple[Any, Any]] = []
        if isinstance(value, types.FunctionType):
            pairs = [(was, value)]
        elif isinstance(value, (staticmethod, classmethod)) and was is not None:
            pairs = [(was.__func__, value.__func__)]
        elif isinstance(value, property) and was is not None:
            pairs = [(was.fget, value.fget)]
        elif type(value) in (int, float, bool, str, tuple) and not key.startswith("__") and was != value:
            setattr(old, key, value)
            yield True
        yield from (_swap_code(a, b) for a, b in pairs if isinstance(a, types.FunctionType))


def _swap_code(old: Any, new: Any) -> bool:
    if not isinstance(old, types.FunctionType) or old.__code__.co_freevars != new.__code__.co_freevars:
        raise Unplaced
    is_new = _differs(old.__code__, new.__code__) or repr(old.__defaults__) != repr(new.__defaults__)
    is_new |= repr(old.__kwdefaults__) != repr(new.__kwdefaults__)
    if is_new:
        old.__code__, old.__defaults__, old.__kwdefaults__ = new.__code__, new.__defaults__, new.__kwdefaults__
    return is_new


def _differs(a: Any, b: Any) -> bool:
    """Say whether two code objects do other things, wherever they were written."""
    if isinstance(a, types.CodeType) and isinstance(b, types.CodeType):
        if (a.co_code, a.co_names, a.co_varnames, len(a.co_consts)) != (
            b.co_code, b.co_names, b.co_varnames, len(b.co_consts)
        ):  # fmt: skip
            return True
        return any(_differs(x, y) for x, y in zip(a.co_consts, b.co_consts, strict=True))
    return repr(a) != repr(b)


def _around(source: str, line: int) -> set[int]:
    """Return the first lines of the outermost functions around a line; none where it is of the module or a class."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    around = [
        n for n in ast.walk(ast.parse(source)) if isinstance(n, kinds) and n.lineno <= line <= (n.end_lineno or 0)
    ]
    return {min([n.lineno, *(d.lineno for d in n.decorator_list)]) for n in around[:1]}


class Trying:
    """A plugin of pytest that runs the tests it has collected once for every mutant, each in a child."""

    def __init__(self, mutants: list[Mutant], source: str, seconds: int, log: Path, note: Callable[..., None]) -> None:
        self.mutants, self.source, self.seconds, self.log, self.note = mutants, source, seconds, log, note

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Try every mutant instead of the tests."""
        if session.testsfailed or not session.items:
            raise RuntimeError("the tests cannot be collected")
        reached = self._reached(session)
        for mutant in self.mutants:
            functions = _around(self.source, mutant.line)
            times = [(spent, i) for i, (spent, lines) in enumerate(reached) if not functions or functions & lines]
            items = [session.items[i] for _, i in sorted(times)]
            child = os.fork()
            if child == 0:
                self._be(items, session, mutant)
            _, status = os.waitpid(child, 0)
            code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
            self.note(mutant, code, self.log.read_text(errors="replace"))
        return True

    def _reached(self, session: pytest.Session) -> list[tuple[float, set[int]]]:
        """Run the tests once in a child; return what each takes and which functions of the module it enters."""
        child = os.fork()
        if child == 0:
            found = list[tuple[float, list[int]]]()
            for item, after in zip(session.items, [*session.items[1:], None], strict=True):
                lines: set[int] = set()

                def enter(frame: Any, event: str, _: Any, lines: set[int] = lines) -> None:
                    if event == "call" and frame.f_code.co_filename.endswith(self.mutants[0].path):
                        lines.add(frame.f_code.co_firstlineno)

                begun = time.process_time()
                sys.setprofile(enter)
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
                sys.setprofile(None)
                found.append((time.process_time() - begun, sorted(lines)))
            self.log.write_text(json.dumps([session.testsfailed, found]))
            os._exit(0)
        os.waitpid(child, 0)
        failed, found = json.loads(self.log.read_text())
        if failed:
            raise RuntimeError("the tests fail without any change")
        return [(spent, set(lines)) for spent, lines in found]

    def _be(self, items: list[pytest.Item], session: pytest.Session, mutant: Mutant) -> None:
        """Be the child: never returns."""
        code = FAILED
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (self.seconds, self.seconds))
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            place(mutant, self.source)
            for item, after in zip(items, [*items[1:], None], strict=True) if items else ():
                os.ftruncate(log, 0)
                os.pwrite(log, item.nodeid.encode(), 0)
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
                if session.testsfailed:
                    break
            else:
                code = PASSED
        except Unplaced:
            code = UNPLACED
        except BaseException as error:
            os.pwrite(log, f"{type(error).__name__}: {error}"[:200].encode(), 0)
        os._exit(code)


def try_all(mutants: list[Mutant], root: Path, tests: tuple[str, ...], seconds: int, log: Path,
            note: Callable[..., None]) -> None:  # fmt: skip
    """Try mutants of one module in a child that collects its tests; ``note(mutant, code, last test)`` is called."""
    source = (root / mutants[0].path).read_text(encoding="utf-8")
    options = ["-q", "-p", "no:randomly", "-p", "no:cacheprovider", "-p", "no:xdist", "--hypothesis-profile=few", "-s",
               "-W", "ignore::pytest.PytestAssertRewriteWarning"]  # fmt: skip
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = int(pytest.main([*options, *tests], plugins=[Trying(mutants, source, seconds, log, note)]))
        finally:
            sys.stdout.flush()
            os._exit(code)
    os.waitpid(child, 0)
