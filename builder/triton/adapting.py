"""Configs as a server of some version runs them well."""

from __future__ import annotations

from typing import Any

# Triton before 26.08 loses wake-ups in models with a queue policy (server issue 8870): bursts of two requests were
# seen to wait 500 ms.
QUEUE_POLICIES_SINCE = (2, 72)
# Platforms that older servers do not know by name, and since when they do. The model's backend, which stays, tells it
# as much.
PLATFORMS_SINCE = {"torch_aoti": (2, 67)}


def adapt(model: Any, triton: str) -> None:
    """Change a ModelConfig for a Triton of that version, such as 2.51.0."""
    version = _parsed(triton)
    if model.HasField("dynamic_batching") and version < QUEUE_POLICIES_SINCE:
        model.dynamic_batching.ClearField("default_queue_policy")
    if version < PLATFORMS_SINCE.get(model.platform, (0,)):
        model.platform = ""


def lower(model: Any, largest: int) -> None:
    """The largest batch, and no preference for larger ones, which the server would refuse."""
    warm_up = max((each.batch_size for each in model.model_warmup), default=1)
    model.max_batch_size = min(model.max_batch_size, max(largest, warm_up))
    if model.HasField("dynamic_batching"):
        batching = model.dynamic_batching
        batching.preferred_batch_size[:] = [n for n in batching.preferred_batch_size if n <= model.max_batch_size]


def _parsed(triton: str) -> tuple[int, ...]:
    """What nobody can read is taken for a new one."""
    numbers = triton.split(".")[:2]
    return tuple(map(int, numbers)) if all(number.isdecimal() for number in numbers) else (10**6,)
