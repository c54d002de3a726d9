"""Where a model's instances run, and what the rate limiter counts of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from builder.check.findings import DIED, Finding, Level, Rule
from builder.check.listing import number
from builder.check.model import Context, Model
from builder.check.rules.naming import UTILS, quoted

LARGEST_PROFILE = 2**31 - 1

GPUS_OF_MODEL = Rule(
    "TMR302",
    "gpus-of-kind-model",
    Level.ERROR,
    "An instance group of KIND_MODEL names GPUs.",
    "The model's code itself chooses the devices.",
    "Leave `gpus` out, or write KIND_GPU.",
    UTILS,
)
GPUS_OF_CPU = Rule(
    "TMR303",
    "gpus-of-kind-cpu",
    Level.ERROR,
    "An instance group that runs on the CPU names GPUs.",
    "The server does not guess which of both is meant. KIND_AUTO is the CPU where a GPU that is named is not there.",
    "Leave `gpus` out, or write KIND_GPU.",
    UTILS,
)
NO_GPU = Rule(
    "TMR304",
    "no-gpu",
    Level.ERROR,
    "An instance group of KIND_GPU is for a machine without one.",
    "The server refuses it, and does not take the CPU instead.",
    "Write KIND_CPU, or KIND_AUTO for GPUs where there are some.",
    UTILS,
)
GPU = Rule(
    "TMR305",
    "no-such-gpu",
    Level.ERROR,
    "An instance group names a GPU that cannot be there.",
    "GPUs are numbered from 0, and the server refuses numbers that its machine has not.",
    "Name GPUs that are there, or leave `gpus` out for all of them.",
    UTILS,
)
KIND = Rule(
    "TMR306",
    "unknown-kind",
    Level.ERROR,
    "An instance group's kind is a number that means nothing.",
    "The server knows KIND_AUTO, KIND_GPU, KIND_CPU and KIND_MODEL.",
    "Write one of these.",
    UTILS,
)
PROFILE_ELSEWHERE = Rule(
    "TMR307",
    "profile-outside-tensorrt",
    Level.ERROR,
    "An instance group has an optimization profile, and the model is no TensorRT plan.",
    "Only plans have profiles.",
    "Leave `profile` out.",
    UTILS,
)
PROFILE = Rule(
    "TMR308",
    "profile-is-no-number",
    Level.ERROR,
    "An optimization profile is not a number from 0 on.",
    "Plans number their profiles.",
    "Write the profile's number, as a string.",
    UTILS,
)
PROFILE_TOO_LARGE = Rule(
    "TMR309",
    "profile-too-large",
    Level.ERROR,
    "The number of an optimization profile is too large.",
    "The server ends when it reads such a number, and with it every other model.",
    "Write the profile's number.",
    UTILS,
)
RESOURCE = Rule(
    "TMR310",
    "resource-global-and-not",
    Level.WARNING,
    "A resource of the rate limiter is global in one place and a device's in another.",
    "A server that limits rates (--rate-limit=execution_count) refuses the model; others ignore resources.",
    "Say `global: true` of the resource everywhere, or nowhere.",
    "core: src/rate_limiter.cc",
)
COUNT = Rule(
    "TMR311",
    "negative-count",
    Level.WARNING,
    "The count of an instance group is negative.",
    "The server takes its default instead.",
    "Write how many instances there should be, or leave `count` out.",
    UTILS,
)
PASSIVE = Rule(
    "TMR312",
    "only-passive-instances",
    Level.WARNING,
    "All instances of the model are passive.",
    "Passive instances take no requests: the model is ready, and never answers.",
    "Leave `passive` out in one instance group.",
    "core: src/backend_model.cc",
)
RULES = (
    *(GPUS_OF_MODEL, GPUS_OF_CPU, NO_GPU, GPU, KIND, PROFILE_ELSEWHERE, PROFILE, PROFILE_TOO_LARGE),
    *(RESOURCE, COUNT, PASSIVE),
)


def check(model: Model, context: Context) -> Iterator[Finding]:
    # Of ensembles, the server looks at none of this.
    if model.filled.HasField("ensemble_scheduling"):
        return
    for place, group in enumerate(model.filled.instance_group):
        yield from _devices(model, place, group, context.gpus)
        yield from _profiles(model, place, group)
    for place, group in enumerate(model.config.message.instance_group):
        if group.count < 0:
            yield model.finding(COUNT, f"the count is {group.count}", "instance_group", place, "count")
    yield from _resources(model)
    if model.filled.instance_group and all(group.passive for group in model.filled.instance_group):
        yield model.finding(PASSIVE, "no instance takes requests", "instance_group", 0, "passive")


def _devices(model: Model, place: int, group: Any, gpus: int | None) -> Iterator[Finding]:
    path = ("instance_group", place, "gpus")
    said = f"instance group {group.name} of model {model.filled.name} "
    negative = [gpu for gpu in group.gpus if gpu < 0]
    kind = _kind(group, gpus)
    if kind not in (group.KIND_AUTO, group.KIND_GPU, group.KIND_CPU, group.KIND_MODEL):
        message, server = f"there is no kind {group.kind}", f"{said}has unexpected kind"
        yield model.finding(KIND, message, "instance_group", place, "kind", server=server)
    elif kind == group.KIND_MODEL and group.gpus:
        server = f"{said}has kind KIND_MODEL but specifies one or more GPUs"
        yield model.finding(GPUS_OF_MODEL, f"KIND_MODEL has the GPUs {list(group.gpus)}", *path, server=server)
    elif kind == group.KIND_CPU and group.gpus:
        server = f"{said}has kind KIND_CPU but specifies one or more GPUs"
        yield model.finding(GPUS_OF_CPU, f"the CPU has the GPUs {list(group.gpus)}", *path, server=server)
    elif kind == group.KIND_AUTO and negative:
        # A GPU that is not there makes the CPU of it.
        server = f"{said}has kind KIND_CPU but specifies one or more GPUs"
        yield model.finding(GPU, f"there is no GPU {negative[0]}", *path, server=server)
    elif kind == group.KIND_GPU:
        yield from _of_gpu(model, place, group, gpus)


def _kind(group: Any, gpus: int | None) -> int:
    """As the server resolves KIND_AUTO, where the number of GPUs is known."""
    if group.kind != group.KIND_AUTO or gpus is None:
        return int(group.kind)
    return int(group.KIND_GPU if gpus and all(0 <= gpu < gpus for gpu in group.gpus) else group.KIND_CPU)


def _of_gpu(model: Model, place: int, group: Any, gpus: int | None) -> Iterator[Finding]:
    said = f"instance group {group.name} of model {model.filled.name} "
    if not group.gpus:
        if gpus == 0:
            server = f"{said}has kind KIND_GPU but no GPUs are available"
            yield model.finding(NO_GPU, "there is no GPU", "instance_group", place, "kind", server=server)
        return
    for gpu in group.gpus:
        if gpu < 0 or (gpus is not None and gpu >= gpus):
            server = f"{said}specifies invalid or unsupported gpu id {gpu}"
            yield model.finding(GPU, f"there is no GPU {gpu}", "instance_group", place, "gpus", server=server)
            return


def _profiles(model: Model, place: int, group: Any) -> Iterator[Finding]:
    path = ("instance_group", place, "profile")
    if group.profile and model.filled.platform != "tensorrt_plan":
        server = "specifies profile field which is only supported for TensorRT models"
        yield model.finding(PROFILE_ELSEWHERE, "there are no profiles outside of TensorRT", *path, server=server)
        return
    for index, profile in enumerate(group.profile):
        yield from _profile(model, profile, (*path, index))


def _profile(model: Model, profile: str, path: tuple[str | int, ...]) -> Iterator[Finding]:
    value = number(profile)
    if value is None:
        server = f"unable to parse '{profile}': stoi" if profile else "profile name must not be empty"
        yield model.finding(PROFILE, f"the profile {quoted(profile)} is no number", *path, server=server)
    elif not -LARGEST_PROFILE - 1 <= value <= LARGEST_PROFILE:
        yield model.finding(PROFILE_TOO_LARGE, f"the profile's number is {value}", *path, server=DIED)
    elif value < 0:
        server = f"specifies invalid profile {profile}"
        yield model.finding(PROFILE, f"the profile's number is {value}", *path, server=server)


def _resources(model: Model) -> Iterator[Finding]:
    kinds: dict[str, bool] = {}
    for place, group in enumerate(model.filled.instance_group):
        for index, resource in enumerate(group.rate_limiter.resources):
            is_global = getattr(resource, "global")
            if kinds.setdefault(resource.name, is_global) != is_global:
                path = ("instance_group", place, "rate_limiter", "resources", index)
                message = f"the resource {quoted(resource.name)} is global, and is not"
                server = f'Resource "{resource.name}" is present as both global and device-specific resource'
                yield model.finding(RESOURCE, message, *path, server=server)
