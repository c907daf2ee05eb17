"""A batch from end to end with fake jobs: kills, signals, two writers, filters, shards, exit codes."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cli
from extract.batch.ledger import LEDGER, RESULT, decode_line, without_run
from tests.unit.batch.suites import Inside, calls, fake_bench, fake_suite, finish, forget_calls, soon, start, workers_of

ON_LINUX = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in Linux's /proc")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Inside]:
    """The command with fake jobs, in this process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield Inside(monkeypatch, capfd)
    for number, handler in before.items():
        signal.signal(number, handler)


PUBLISHED = """
[[published]]
work = "Somebody"
rows = ["even/*"]
figure = "1 of 9"
counted = "samples"
"""


def stable(folder: Path) -> bytes:
    return without_run((folder / RESULT).read_bytes())


def names_in(ledger: Path) -> set[str]:
    """The rows acknowledged in a ledger: those whose lines are whole."""
    lines = map(decode_line, ledger.read_bytes().splitlines(keepends=True)) if ledger.exists() else []
    return {line["name"] for line in lines if line is not None and line["kind"] == "row"}


def test_rows_are_done_scored_and_kept(tmp_path: Path, bench: Inside) -> None:
    suite = fake_suite(tmp_path, {}, {"status": "undecided"}, {"status": "proved_except"}, {"status": "error"}, {})
    code, out, err = bench(suite, "-o", tmp_path / "out", "--jobs", "2")
    assert code == 1, err  # the error was not expected
    assert [line.split()[:2] for line in out.splitlines()[:3]] == [
        ["proved", "even/row00"], ["except", "even/row02"], ["proved", "even/row04"],
    ]  # fmt: skip
    lines = [json.loads(line) for line in (tmp_path / "out" / RESULT).read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["header", *["row"] * 5, "summary"]
    assert lines[-1]["score"]["all"]["points"] == 30
    assert lines[-1]["score"]["odd"]["by_status"] == {"error": 1, "undecided": 1}
    assert "5/5" in err
    assert "\x1b" not in out + err
    again, out_again, err_again = bench(suite, "-o", tmp_path / "out")
    assert (again, out_again) == (1, out)
    assert "5 rows are in the ledger already" in err_again
    assert set(calls(suite).values()) == {1}


def kill_and_resume(tmp_path: Path, n_kills: int, seed: int) -> None:
    draw = random.Random(seed)
    rows = [{"seconds": 0.03, "status": s} for s in ("proved", "undecided", "refuted") for _ in range(8)]
    suite = fake_suite(tmp_path, *rows)
    assert fake_bench(suite, "-o", tmp_path / "whole", cwd=tmp_path)[0] == 0
    forget_calls(suite)
    folder, arguments = tmp_path / "out", ("bench", suite, "-o", tmp_path / "out", "--jobs", "2")
    done: set[str] = set()
    for kill in range(n_kills):
        process = start(*arguments, cwd=tmp_path)
        if kill % 3:  # most kills come when rows are being written, some before
            soon(lambda: bool(names_in(folder / LEDGER) - done) or process.poll() is not None, 20)  # noqa: B023
        time.sleep(draw.random() * 0.2)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert soon(lambda: not workers_of(process.pid)), "a worker outlived its supervisor"  # noqa: B023
        assert done <= names_in(folder / LEDGER), "an acknowledged row was lost"
        done = names_in(folder / LEDGER)
        forget_calls(suite)
        if len(done) == len(rows):
            (folder / LEDGER).unlink()
            done = set()
    code, _, err = fake_bench(*arguments[1:], cwd=tmp_path)
    assert code == 0, err
    assert not done & set(calls(suite)), "an acknowledged row was done again"
    assert stable(folder) == stable(tmp_path / "whole")


@ON_LINUX
def test_a_killed_run_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    kill_and_resume(tmp_path, 4, seed=1)


@ON_LINUX
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_a_run_killed_many_times_resumes_to_the_same_bytes(seed: int, tmp_path: Path) -> None:
    kill_and_resume(tmp_path, 10, seed=100 + seed)


def interrupt(tmp_path: Path, number: signal.Signals, delay: float, *options: str) -> None:
    suite = fake_suite(tmp_path, {}, {"hang": 9}, {}, {"hang": 9})
    process = start("bench", suite, "-o", tmp_path / "out", "--jobs", "2", *options, cwd=tmp_path, PYTHONWARNINGS="")
    assert soon(lambda: len(calls(suite)) == 4, 60)
    time.sleep(delay)
    before = time.monotonic()
    process.send_signal(number)
    code, out, err = finish(process)
    assert time.monotonic() - before < 3
    assert (code, out) == (128 + number, "")
    assert "the same command goes on from there" in err
    assert "Traceback" not in err
    assert not workers_of(process.pid)
    assert names_in(tmp_path / "out" / LEDGER) == {"even/row00", "even/row02"}
    data = (tmp_path / "out" / LEDGER).read_bytes()
    assert all(decode_line(line) for line in data.splitlines(keepends=True))
    assert not (tmp_path / "out" / RESULT).exists()


@ON_LINUX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_a_batch_in_order(number: signal.Signals, tmp_path: Path) -> None:
    interrupt(tmp_path, number, 0.3)


@ON_LINUX
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_a_batch_on_dask_in_order(number: signal.Signals, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    interrupt(tmp_path, number, 0.3, "--engine", "dask")


@ON_LINUX
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("point", range(20))
def test_signals_end_a_batch_in_order_at_any_point(number: signal.Signals, point: int, tmp_path: Path) -> None:
    interrupt(tmp_path, number, 0.1 + 0.03 * point)


@ON_LINUX
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_while_rows_are_being_written(number: signal.Signals, tmp_path: Path) -> None:
    suite = fake_suite(tmp_path, *[{"seconds": 0.01}] * 40)
    draw = random.Random(5)
    for _ in range(10):
        for name in (LEDGER, RESULT):  # its coming back says that the command has taken charge of signals
            (tmp_path / "out" / name).unlink(missing_ok=True)
        process = start("bench", suite, "-o", tmp_path / "out", "--jobs", "2", "--force", cwd=tmp_path)
        soon(lambda: (tmp_path / "out" / LEDGER).exists() or process.poll() is not None, 20)  # noqa: B023
        time.sleep(draw.random())
        process.send_signal(number)
        code, _, err = finish(process)
        # Python gives signals back their default while it exits, after everything is written.
        is_over = (tmp_path / "out" / RESULT).exists() and "40/40" in err
        assert code in (128 + number, 0) or (code == -number and is_over), err
        data = (tmp_path / "out" / LEDGER).read_bytes()
        assert all(decode_line(line) for line in data.splitlines(keepends=True))


def test_a_row_whose_files_cannot_be_written_ends_the_batch(tmp_path: Path, bench: Inside) -> None:
    suite = fake_suite(tmp_path, {}, {"status": "error", "code": "output"})
    code, _, err = bench(suite, "-o", tmp_path / "out")
    assert (code, "as told" in err) == (74, True)
    assert names_in(tmp_path / "out" / LEDGER) == {"even/row00"}


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    suite = fake_suite(tmp_path, {}, {"hang": 9})
    process = start("bench", suite, "-o", tmp_path / "out", cwd=tmp_path)
    assert soon(lambda: len(calls(suite)) == 2, 30)
    code, _, err = fake_bench(suite, "-o", tmp_path / "out", cwd=tmp_path)
    process.kill()
    process.communicate()
    assert code == 74
    assert f"another run (process {process.pid}) writes to" in err


def test_a_changed_suite_or_budget_is_refused(tmp_path: Path, bench: Inside) -> None:
    suite = fake_suite(tmp_path, {}, {})
    assert bench(suite, "-o", tmp_path / "out")[0] == 0
    code, _, err = bench(suite, "-o", tmp_path / "out", "--max-cost", "9")
    assert (code, "another suite or budget" in err, "--force" in err) == (74, True, True)
    (suite / "even" / "row00" / "config.json").write_text("{}")
    assert bench(suite, "-o", tmp_path / "out")[0] == 74
    assert bench(suite, "-o", tmp_path / "out", "--force")[0] == 0


def test_what_a_killed_run_left_half_written_is_removed(tmp_path: Path, bench: Inside) -> None:
    suite = fake_suite(tmp_path, {}, {})
    certificates = tmp_path / "out" / "certificates"
    certificates.mkdir(parents=True)
    left = [certificates / ".odd__row01.cert.json.ab12.part", tmp_path / "out" / f".{RESULT}.x.part"]
    others = [certificates / "notes.part", tmp_path / "out" / ".mine.part"]
    for path in (*left, *others):
        path.write_text("half")
    assert bench(suite, "-o", tmp_path / "out")[0] == 0
    assert [path.exists() for path in (*left, *others)] == [False, False, True, True]


def test_filters_and_shards_partition_and_join(tmp_path: Path, bench: Inside) -> None:
    suite = fake_suite(tmp_path, *[{}] * 5)
    assert bench(suite, "-o", tmp_path / "out", "--filter", "odd/*")[0] == 0
    assert set(calls(suite)) == {"odd/row01", "odd/row03"}
    assert bench(suite, "-o", tmp_path / "out")[0] == 0
    assert set(calls(suite).values()) == {1}
    for shard in ("1/2", "2/2"):
        assert bench(suite, "-o", tmp_path / shard[0], "--shard", shard)[0] == 0
    parts = [names_in(tmp_path / part / LEDGER) for part in ("1", "2")]
    assert not parts[0] & parts[1]
    assert len(parts[0] | parts[1]) == 5
    code, _, err = bench(suite, "-o", tmp_path / "out", "--filter", "nothing")
    assert (code, "matches none of 5 rows" in err) == (2, True)
    assert bench(suite, "-o", tmp_path / "out", "--shard", "3/2")[0] == 2


def suite_file(tmp_path: Path, *rows: dict[str, Any]) -> Path:
    """A suite.toml whose rows are fake checkpoints; keys beside ``fake`` are the row's own."""
    fake_suite(tmp_path, *(row["fake"] for row in rows))
    lines = ["version = 1"]
    for i, row in enumerate(rows):
        place = f"{'even' if i % 2 == 0 else 'odd'}/row{i:02d}"
        lines += ["[[row]]", f'name = "{place}"', f'checkpoint = "suite/{place}"']
        lines += [f"{key} = {json.dumps(value)}" for key, value in row.items() if key != "fake"]
    (tmp_path / "suite.toml").write_text("\n".join(lines))
    return tmp_path / "suite.toml"


@pytest.mark.parametrize(
    ("fake", "expected", "options", "code"),
    [
        ({}, ["proved"], (), 0),
        ({"status": "refuted"}, ["proved"], (), 1),
        ({"status": "refuted"}, ["proved"], ("--fail-on", "none"), 0),
        ({"status": "undecided"}, ["proved"], (), 0),
        ({"status": "undecided"}, ["proved"], ("--fail-on", "missed"), 1),
        ({"status": "error"}, ["error"], (), 0),
        ({"status": "error"}, [], (), 1),
        ({"status": "proved_except"}, ["proved"], (), 1),
        ({"wrong": 1}, ["proved"], (), 5),
        ({"wrong": 1}, ["proved"], ("--fail-on", "none"), 5),
    ],
)
def test_exit_codes(
    fake: dict[str, Any], expected: list[str], options: tuple[str, ...], code: int, tmp_path: Path, bench: Inside
) -> None:
    suite = suite_file(tmp_path, {"fake": fake, "expected": expected})
    found, out, err = bench(suite, "-o", tmp_path / "out", *options)
    assert found == code, err
    assert ("WRONG" in out) == ("wrong" in fake)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("version = 2\nrow = []", r"$.version is 2, expected 1"),
        ('version = 1\n[[row]]\nname = "../x"\ntrain = "max"', "$.name is '../x'"),
        ('version = 1\n[[row]]\nname = "x"', "either $.checkpoint"),
        ('version = 1\n[[row]]\nname = "x"\ncheckpoint = "absent"', "'absent' is not there"),
        ('version = 1\n[[row]]\nname = "x"\ntrain = "maximum"', "no task is named 'maximum'"),
        ('version = 1\n[[row]]\nname = "x"\ntrain = "max"\nexpected = ["yes"]', "$.expected has 'yes'"),
        ('version = 1\n[[row]]\nname = "x"\ntrain = "max"\nseconds = -1', "$.seconds is -1"),
        ('version = 1\n[[row]]\nname = "x"\ntrain = "max"\n[[row]]\nname = "x"\ntrain = "max"', "twice"),
        ('version = 1\n[[row]]\nname = "x"\ncolour = "red"', "colour"),
        ('version = 1\n[[row]]\nname = "x"\ntrain = "max"' + PUBLISHED, "'even/*' matches no row"),
        ("not toml", "is no suite"),
    ],
)
def test_a_bad_suite_is_one_line_and_writes_nothing(text: str, place: str, tmp_path: Path, bench: Inside) -> None:
    (tmp_path / "suite.toml").write_text(text)
    code, out, err = bench(tmp_path / "suite.toml", "-o", tmp_path / "out")
    assert (code in (2, 4), out, err.count("\n")) == (True, "", 1), err
    assert place in err
    assert "suite.toml" in err
    assert not (tmp_path / "out").exists()


def test_an_empty_or_absent_suite_is_refused(tmp_path: Path, bench: Inside) -> None:
    assert bench(tmp_path, "-o", tmp_path / "out")[0] == 4
    assert bench(tmp_path / "absent", "-o", tmp_path / "out")[0] == 4
    assert bench(tmp_path)[0] == 2


def test_published_figures_stand_beside_what_was_proved(tmp_path: Path, bench: Inside) -> None:
    fakes: list[dict[str, Any]] = [{}, {}, {"status": "proved_except"}, {}, {"status": "undecided"}, {}, {"wrong": 1}]
    suite = suite_file(tmp_path, *({"fake": fake} for fake in fakes))
    assert bench(suite, "-o", tmp_path / "plain")[0] == 5
    with suite.open("a") as file:
        file.write(PUBLISHED)
    code, out, _ = bench(suite, "-o", tmp_path / "out")
    assert code == 5
    assert "Somebody  here 1 of 4, 1 except; published: 1 of 9" in out
    assert "counts: samples" in out
    summary = json.loads((tmp_path / "out" / RESULT).read_text().splitlines()[-1])
    told = {"work": "Somebody", "figure": "1 of 9", "counted": "samples", "rows": 4, "proved": 1, "proved_except": 1}
    assert summary["published"] == [told]
    assert cli.main(["report", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert all(said in page for said in ("Somebody", "1 of 4, 1 except", "score by family", "believe nothing"))
    assert "Somebody" not in bench(suite, "-o", tmp_path / "out", "--filter", "odd/*")[1]
    # what others report changes no result: the ledger made without it is continued
    assert "7 rows are in the ledger already" in bench(suite, "-o", tmp_path / "plain")[2]


def test_comparison_says_what_became_worse(tmp_path: Path, bench: Inside) -> None:
    bench(fake_suite(tmp_path / "a", {}, {}, {}), "-o", tmp_path / "before")
    bench(fake_suite(tmp_path / "b", {}, {"status": "undecided"}), "-o", tmp_path / "after")
    code, out, _ = bench("--compare", tmp_path / "before", tmp_path / "after")
    assert code == 1
    assert [" ".join(line.split()[:4]) for line in out.splitlines()[:2]] == [
        "even/row02 proved -> absent", "odd/row01 proved -> undecided",
    ]  # fmt: skip
    assert "2 rows changed, 1 did not" in out
    assert bench("--compare", tmp_path / "after", tmp_path / "after")[0] == 0
    assert bench("--compare", tmp_path / "after", tmp_path / "absent")[0] == 4


def test_the_json_is_the_result_and_only_that(tmp_path: Path, bench: Inside) -> None:
    suite = fake_suite(tmp_path, {}, {})
    code, out, _ = bench(suite, "-o", tmp_path / "out", "--json")
    assert (code, out.encode()) == (0, (tmp_path / "out" / RESULT).read_bytes())


@pytest.mark.slow
def test_dask_gives_the_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    suite = fake_suite(tmp_path, {}, {"die": 1}, {"die": 9}, {"status": "undecided"})
    changes = {"PYTHONWARNINGS": "default"}
    local = fake_bench(suite, "-o", tmp_path / "local", cwd=tmp_path)
    forget_calls(suite)
    options = ("--engine", "dask", "--jobs", "2")
    dask = fake_bench(suite, "-o", tmp_path / "dask", *options, cwd=tmp_path, **changes)
    assert (local[0], dask[0]) == (1, 1), dask[2]
    assert stable(tmp_path / "local") == stable(tmp_path / "dask")
    assert "Traceback" not in dask[2]


def test_a_scheduler_needs_dask_and_an_answer(tmp_path: Path, bench: Inside) -> None:
    suite = fake_suite(tmp_path, {})
    code, _, err = bench(suite, "-o", tmp_path / "out", "--scheduler", "tcp://localhost:1")
    assert (code, "--engine dask" in err) == (2, True)
