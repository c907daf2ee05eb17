"""What every test shares: one thread, three hypothesis profiles, the real checkpoints where they are present."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, Phase, settings

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "checkpoints"

settings.register_profile("ci", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("local", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# for mutation testing, which asks whether a test fails and not for the least input that fails it
QUICK = (Phase.explicit, Phase.generate)
settings.register_profile("few", settings.get_profile("ci"), max_examples=12, phases=QUICK)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(scope="session")
def shared_checkpoints() -> Path:
    """The folder of real checkpoints beside the repository; the test skips where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("the real checkpoints are not beside this repository")
    return SHARED
