"""``python -m benchmarks.synthesis``: search every task, print a table, fail if a program is wrong on its domain."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

from benchmarks.synthesis.measuring import Limits, Measurement, measured
from benchmarks.synthesis.suite import TASKS
from benchmarks.synthesis.table import header, line, summary


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit code: 1 if a program is wrong on the bounded domain or a task was lost."""
    options = _parser().parse_args(arguments)
    chosen = [task for task in TASKS if re.search(options.filter, f"{task.family}/{task.name}")]
    limits = Limits(options.seconds, options.candidates, options.memory << 20, options.seed)
    # several threads of one search would make its processor time unlike its wall time
    os.environ["OMP_NUM_THREADS"] = "1"
    print(header(), flush=True)
    results: list[Measurement] = []
    with ThreadPoolExecutor(max_workers=options.jobs) as pool:
        searched = [task.name for task in chosen if not task.outside]
        for result in pool.map(partial(measured, limits=limits), searched):
            results.append(result)
            print(line(result), flush=True)
            if options.programs and result.program:
                print("    " + result.program.strip().replace("\n", "\n    "), flush=True)
    print(summary(results))
    for task in chosen:
        if task.outside:
            print(f"outside the language: {task.name}: {task.outside}")
    if options.json:
        rows = {"limits": asdict(limits), "tasks": [asdict(result) for result in results]}
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return int(any(result.status in ("wrong", "crashed", "killed") for result in results))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.synthesis", description=__doc__)
    parser.add_argument("--filter", default="", metavar="REGEX", help="only tasks whose family/name it is found in")
    parser.add_argument("--seconds", type=float, default=60.0, help="limit of each search (default: 60)")
    parser.add_argument("--candidates", type=int, default=0, help="limit of each search (default: the engine's)")
    parser.add_argument("--memory", type=int, default=1024, metavar="MB", help="limit of each search (default: 1024)")
    parser.add_argument("--jobs", type=int, default=1, help="searches at a time (default: 1, for quiet times)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the probes (default: 0)")
    parser.add_argument("--programs", action="store_true", help="print each program under its row")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured")
    return parser


if __name__ == "__main__":
    sys.exit(main())
