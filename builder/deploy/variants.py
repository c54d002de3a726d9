"""The kinds of machine that a repository's models run on, one deployment each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from builder.errors import DeployError
from builder.repository.served import Served

CAPABILITY = re.compile(r"(\d+)\.(\d+)", re.ASCII)
GPU_MAJOR, GPU_MINOR = "nvidia.com/gpu.compute.major", "nvidia.com/gpu.compute.minor"
"""Labels that NVIDIA's GPU feature discovery gives nodes."""
# By the kernel's names; those that node feature discovery publishes unless it is told otherwise.
CPU_FEATURES = {
    "avx2": "AVX2",
    "fma": "FMA3",
    "avx512f": "AVX512F",
    "avx512bw": "AVX512BW",
    "avx512cd": "AVX512CD",
    "avx512dq": "AVX512DQ",
    "avx512vl": "AVX512VL",
    "avx512_vnni": "AVX512VNNI",
    "avx512_bf16": "AVX512BF16",
    "avx512_fp16": "AVX512FP16",
    "avx_vnni": "AVXVNNI",
    "amx_tile": "AMXTILE",
    "amx_int8": "AMXINT8",
    "amx_bf16": "AMXBF16",
}


@dataclass(frozen=True)
class Variant:
    name: str
    """cpu, gpu (any), or gpu-smNN."""
    needs_gpu: bool
    node_labels: dict[str, str] = field(default_factory=dict)
    built_on: tuple[str, ...] = ()
    """GPUs that the plans were built on, by name."""


def variants(models: Sequence[Served]) -> list[Variant]:
    """One a GPU generation that every model runs on; else one. Raises DeployError if no machine runs them all."""
    bound = {model.name: model.capabilities for model in models if model.needs_gpu and model.capabilities}
    if bound:
        return [_of_generation(models, capability) for capability in _shared(bound)]
    features = _cpu_labels(models)
    if any(model.needs_gpu for model in models):
        return [Variant("gpu", True, features)]  # a node without a GPU has none to give
    return [Variant("cpu", False, features)]


def _shared(bound: dict[str, tuple[str, ...]]) -> list[str]:
    shared = set.intersection(*(set(capabilities) for capabilities in bound.values()))
    if not shared:
        known = "; ".join(f"{name}: {', '.join(capabilities)}" for name, capabilities in bound.items())
        raise DeployError(
            f"no GPU runs all models, whose compute capabilities are {known}; build what is missing and merge it "
            "(build-repo merge), or deploy them from repositories of their own"
        )
    return sorted(shared, key=lambda capability: [int(number) for number in _numbers(capability)])


def _numbers(capability: str) -> tuple[str, str]:
    match = CAPABILITY.fullmatch(capability)
    if match is None:
        raise DeployError(f"{capability!r} is not a compute capability, such as 9.0; build the model again")
    return match[1], match[2]


def _of_generation(models: Sequence[Served], capability: str) -> Variant:
    major, minor = _numbers(capability)
    gpus = {model.facts_of(model.network, capability).get("gpu", "") for model in models if capability in model.plans()}
    labels = _cpu_labels(models) | {GPU_MAJOR: major, GPU_MINOR: minor}
    return Variant(f"gpu-sm{major}{minor}", True, labels, tuple(sorted(gpus - {""})))


def _cpu_labels(models: Sequence[Served]) -> dict[str, str]:
    """What packages of machine code need of the CPU, as far as nodes tell."""
    flags = {flag for model in models for flag in model.network.facts.get("instruction_sets", "").split()}
    names = sorted(name for flag, name in CPU_FEATURES.items() if flag in flags)
    return {f"feature.node.kubernetes.io/cpu-cpuid.{name}": "true" for name in names}
