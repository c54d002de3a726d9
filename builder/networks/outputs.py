"""What a network gives, looked at before anything is done with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from builder.errors import BuilderError

if TYPE_CHECKING:
    import torch

SHOWN = 5
ONE_TENSOR = "name a callable whose module returns the scores alone"


def require_scores(output: Any, images: int, name: str, error: type[BuilderError]) -> None:
    """Raise `error` unless the output is scores [images, classes], with what it is and what to do about it."""
    import torch

    if isinstance(output, torch.Tensor):
        if output.ndim == 2 and len(output) == images:
            _require_floats(output, name, error)
            return
        advice = _of_shape(list(output.shape), images)
    else:
        advice = _of_kind(output)
    raise error(f"{name}: a classifier gives scores [B, classes]; this gives {described(output)}{advice}")


def _require_floats(output: torch.Tensor, name: str, error: type[BuilderError]) -> None:
    if not output.is_floating_point():
        form = str(output.dtype).removeprefix("torch.")
        raise error(f"{name}: a classifier gives scores, as floating-point numbers; this gives {form}")


def described(output: Any) -> str:
    """A tensor's shape; of what holds several, the first few."""
    if hasattr(output, "shape"):
        return str(list(output.shape))
    kind = type(output).__name__
    if isinstance(output, Mapping):
        parts = [f"{key!r}: {_brief(value)}" for key, value in list(output.items())[:SHOWN]]
    elif isinstance(output, tuple | list):
        parts = [_brief(value) for value in output[:SHOWN]]
    else:
        return kind
    more = ", ..." if len(output) > SHOWN else ""
    return f"a {kind} of {', '.join(parts)}{more}" if parts else f"an empty {kind}"


def _brief(value: Any) -> str:
    return str(list(value.shape)) if hasattr(value, "shape") else type(value).__name__


def _of_shape(shape: list[int], images: int) -> str:
    if images == 1 and len(shape) == 1:
        return " for one image; a squeeze() without a dimension takes the batch away: use flatten(1), or squeeze(-1)"
    given = f" for a batch of {images}, where [{images}, classes] is expected"
    if len(shape) != 2:
        return given
    return (
        f"{given}. Rows that are no images come of images of another size than forward() was written for (see "
        "`preprocess: crop`) with reshape(-1, N), for which x.flatten(1) is safe"
    )


def _of_kind(output: Any) -> str:
    if isinstance(output, Mapping) and output:
        key = "logits" if "logits" in output else next(iter(output))
        return f"; {ONE_TENSOR}, such as self.network(x)[{key!r}]"
    if isinstance(output, tuple | list) and output:
        return f"; {ONE_TENSOR}, such as self.network(x)[0]"
    return f"; {ONE_TENSOR}"
