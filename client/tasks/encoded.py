"""What tasks of encoded images share."""

from __future__ import annotations

import json
from collections.abc import Sequence

from client.errors import InvalidInput
from client.types import ModelInfo, Tensor

LABELS = "labels"
"""The config's parameter with the names of classes: a JSON list, in the order of their numbers."""


def tensor(info: ModelInfo, contents: Sequence[bytes], purpose: str) -> Tensor:
    """Images as the model's only input. Raises InvalidInput."""
    import numpy as np

    most = max(1, info.max_batch_size)
    if not contents:
        raise InvalidInput(f"there are no images to {purpose}")
    if len(contents) > most:
        raise InvalidInput(f"{info.name} takes at most {most} images a request, not {len(contents)}")
    sides = [1] * (len(info.inputs[0].shape) - 1)
    return Tensor(info.inputs[0].name, np.array(contents, dtype=np.object_).reshape(-1, *sides))


def takes_images(info: ModelInfo) -> bool:
    return [given.datatype for given in info.inputs] == ["BYTES"]


def refusal(info: ModelInfo, task: str, outputs: Sequence[str], does: str) -> str:
    """Why a model is not asked for a task; empty if it is. `does` is what such a model does of encoded images."""
    if info.task == task and takes_images(info) and gives(info, *outputs):
        return ""
    said = f"is for {info.task}, and " if info.task not in (None, task) else ""
    return f"{info.name} {said}does not {does}; `repo-client models` shows what each takes"


def gives(info: ModelInfo, *names: str) -> bool:
    return set(names) <= {given.name for given in info.outputs}


def labels(info: ModelInfo) -> tuple[str, ...]:
    """By class number; none where the model does not tell."""
    try:
        found = json.loads(info.parameters.get(LABELS, "[]"))
    except ValueError:
        return ()
    return tuple(map(str, found)) if isinstance(found, list) else ()


def label(names: Sequence[str], number: int) -> str:
    """The class's name, or its number where it has none."""
    return names[number] if 0 <= number < len(names) and names[number] else str(number)
