"""A cheap job for workers: does what the checkpoint's folder says, ``fake.json``, and notes that it was called.

``die``, ``hang``, ``spin`` and ``eat`` name how many calls end in that way before one goes well; ``seconds`` is how
long a good one takes, and ``status`` and ``wrong`` what it says.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

REPORT = {
    "schema": "extract.result/1", "model": None, "task": None, "programs": [], "verdict": None, "numerics": None,
    "counterexamples": [], "certificate": None, "search": None, "budget_hit": None, "warnings": [], "error": None,
}  # fmt: skip


def do(message: dict[str, Any]) -> dict[str, Any]:
    folder = Path(message["checkpoint"])
    wanted = json.loads((folder / "fake.json").read_text())
    calls = folder.parent / f"{folder.name}.calls"  # beside the folder: inside, it would change the suite
    with calls.open("a") as file:
        file.write("x")
    n_calls = calls.stat().st_size
    if n_calls <= wanted.get("die", 0):
        os.kill(os.getpid(), signal.SIGKILL)
    if n_calls <= wanted.get("hang", 0):
        time.sleep(600)
    if n_calls <= wanted.get("spin", 0):
        re.match("(a+)+b", "a" * 60)  # as a solver that does not come back: in C, and no other thread runs meanwhile
    if n_calls <= wanted.get("eat", 0):
        held = []
        while True:
            held.append(bytearray(os.urandom(1 << 20)) * 16)
            time.sleep(0.01)
    time.sleep(wanted.get("seconds", 0.0))
    if wanted.get("raise"):
        raise RuntimeError("a bug")
    status = wanted.get("status", "proved")
    result = {"schema": REPORT["schema"], "status": status, **{k: v for k, v in REPORT.items() if k != "schema"}}
    if status == "error":
        code = wanted.get("code", "checkpoint")
        result["error"] = {"code": code, "message": "as told", "hint": None}
    run = {"started": str(time.time()), "seconds": {"load": 0.1}, "peak_rss_mb": None, "host": "h", "versions": {}}
    return {"result": result, "spot": {"tried": 5, "wrong": wanted.get("wrong", 0), "first": None}, "run": run}
