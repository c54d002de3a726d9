"""What this process may use of the machine."""

import math
import os
from pathlib import Path

SPIN = "GOMP_SPINCOUNT"
SPINS = "10000"
"""How often a waiting thread of GNU OpenMP looks again before it sleeps. Its own default, some milliseconds, takes the
cores from whatever else runs: three trainings at once took seven times as long on two cores; threads that never
spin are woken too late. Measured also with benchmarks/serving.py."""


def spin_briefly() -> None:
    """Have this process's threads leave the cores to others while they wait, unless the user has said otherwise.

    To be called before torch is imported, which reads it once. Child processes inherit it.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault(SPIN, SPINS)


def granted_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """CPU cores that affinity and the cgroup's quota grant, at least 1.

    Containers see all of the host's cores in `os.cpu_count()`; threads beyond the quota only
    throttle each other.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroup)
    return max(1, min(cores, math.ceil(quota)) if quota else cores)


def _quota(cgroup: Path) -> float | None:
    try:
        limit, period = (cgroup / "cpu.max").read_text().split()  # cgroup v2
    except (OSError, ValueError):
        try:
            limit = (cgroup / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    return None if limit in ("max", "-1") else int(limit) / int(period)
