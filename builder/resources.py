"""What this process may use of the machine."""

import math
import os
from pathlib import Path


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
