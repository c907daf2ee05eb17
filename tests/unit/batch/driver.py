"""The command line with fake jobs: ``python -m tests.unit.batch.driver bench ...`` runs it in its own process."""

from __future__ import annotations

import os
import sys
from dataclasses import replace

import cli
from extract.batch import bench as room

FAKE = "tests.unit.batch.fake_jobs:do"
_bench = room.bench


def with_fakes(request: room.BenchRequest, watcher: room.Watcher) -> room.Batch:
    wall = float(os.environ.get("FAKE_WALL", "30"))
    return _bench(replace(request, job=os.environ.get("FAKE_JOB", FAKE), wall_seconds=wall), watcher)


if __name__ == "__main__":
    room.bench = with_fakes
    sys.exit(cli.main())
