"""What build-repo takes of the machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from builder.machine import cores

TELLS = """
import os

def make():
    raise ValueError(f"spins: {os.environ.get('GOMP_SPINCOUNT')}")
"""


@pytest.mark.parametrize(
    ("said", "spins"),
    [({}, cores.SPINS), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
)
def test_threads_that_wait_leave_the_cores_to_others(said: dict[str, str], spins: str, tmp_path: Path) -> None:
    (tmp_path / "tells.py").write_text(TELLS, encoding="utf-8")
    environment = {k: v for k, v in os.environ.items() if k not in (cores.SPIN, "OMP_WAIT_POLICY")} | said
    command = [sys.executable, "-m", "builder", "describe", "tells.py:make", "--input", "1x8x8"]
    finished = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert f"spins: {spins}" in finished.stderr


def test_cores_are_those_that_the_quota_grants(tmp_path: Path) -> None:
    granted = cores.granted_cores(tmp_path)
    (tmp_path / "cpu.max").write_text("50000 100000")
    assert cores.granted_cores(tmp_path) == 1
    (tmp_path / "cpu.max").write_text("max 100000")
    assert cores.granted_cores(tmp_path) == granted
