"""What this machine can compute with."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path

# Any of them computes the precision natively; without, frameworks emulate it, 40 times slower (seen).
NATIVE_FLAGS = {"bf16": ("avx512_bf16", "amx_bf16", "bf16"), "fp16": ("avx512_fp16", "amx_fp16", "asimdhp")}


# Of all that /proc/cpuinfo lists, on x86 also of the hypervisor and of mended flaws; on ARM all are extensions.
INSTRUCTION_SETS = re.compile(
    r"(avx|amx|s?sse|fma|bmi|f16c|vaes|vpclmul|pclmul|gfni|sha|sm[34]|adx|aes|popcnt|movbe|abm|lzcnt|pni|cx16"
    r"|asimd|fphp|sve|bf16|i8mm|crc32|atomics|lse|dotprod|fcma|jscvt)"
)


@dataclass(frozen=True)
class Gpu:
    name: str
    compute_capability: str
    """`major.minor`"""
    driver: str
    uuid: str = ""
    """Its name for containers: numbers there count all GPUs, those here only the visible ones."""


def cpu_computes(precision: str) -> bool:
    """Whether the CPU has instructions for a half precision."""
    return any(flag in _cpu_flags() for flag in NATIVE_FLAGS[precision])


def instruction_sets() -> frozenset[str]:
    """What a compiler may use of this CPU, by the kernel's names."""
    return frozenset(flag for flag in _cpu_flags() if INSTRUCTION_SETS.match(flag))


@functools.cache
def _cpu_flags() -> frozenset[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return frozenset()
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return frozenset(flags.partition(":")[2].split())


def gpu() -> Gpu | None:
    """The first NVIDIA GPU, as PyTorch sees it; None without one."""
    import torch

    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(0)
    capability = f"{properties.major}.{properties.minor}"
    return Gpu(properties.name, capability, _driver(), f"GPU-{properties.uuid}")


def _driver() -> str:
    try:
        text = Path("/proc/driver/nvidia/version").read_text()
    except OSError:
        return "unknown"
    words = text.splitlines()[0].split()
    return next((word for word in words if word[0].isdigit() and "." in word), "unknown")
