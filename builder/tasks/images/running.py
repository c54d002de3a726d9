"""Networks and artifacts run on the evaluation images, one row an image, at several batch sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from builder.data.images import Evaluation
from builder.errors import VerificationError
from builder.util.reasons import reason

if TYPE_CHECKING:
    import torch

    Rows = Callable[[torch.Tensor], torch.Tensor]
    """float32 [B, C, H, W] -> [B, ...]."""

BUILT_IN = (
    "It was converted with a batch of 2. If that is what is built in, by a loop over the images of a batch, by "
    "int(x.shape[0]) or by a reshape that does not keep the images apart, let forward() compute on the whole batch at "
    "once, such as with x.flatten(1); another `format:` may fit it"
)
FEW = 4
UNTRACED = 3
"""A batch size that no network is converted at (that is 2); tried with the images in another company and order."""


def batch_sizes(max_batch_size: int) -> tuple[int, ...]:
    return tuple(sorted({min(size, max_batch_size) for size in (1, 2, UNTRACED, max_batch_size)}))


def outputs(predict: Rows, images: Evaluation, sizes: tuple[int, ...]) -> list[torch.Tensor]:
    """Rows [images, ...] at each batch size: all images at the largest, the first few at others."""
    import torch

    few = torch.cat(list(images.batches(1, FEW)))
    *smaller, largest = sizes
    rows = [_backwards(predict, few, size) if size == UNTRACED else in_batches(predict, few, size) for size in smaller]
    return [*rows, torch.cat([predict(batch).clone() for batch in images.batches(largest)])]


def in_batches(predict: Rows, images: torch.Tensor, size: int) -> torch.Tensor:
    """Rows for [images, C, H, W], `size` at a time. What predict() does to its input in place, others do not see."""
    import torch

    return torch.cat([predict(batch.clone()).clone() for batch in images.split(size)])  # type: ignore[no-untyped-call]


def _backwards(predict: Rows, images: torch.Tensor, size: int) -> torch.Tensor:
    """The same rows, with the last image asked for first, so that each is in another place, beside others."""
    return in_batches(predict, images.flip(0), size).flip(0)


def held(predict: Rows, row: int | tuple[int, ...], what: str, kind: str = "float32") -> Rows:
    """The artifact, held to what its config will say: [B, *row], of this data type. Raises VerificationError."""

    shape = (row,) if isinstance(row, int) else row

    def checked(batch: torch.Tensor) -> torch.Tensor:
        count = len(batch)
        try:
            rows = predict(batch)
        except Exception as error:  # a runtime's own errors: the artifact is at fault whatever they are
            raise VerificationError(
                f"{what} fails on {_batch(count)}: {reason(error).rstrip('.')}. {BUILT_IN}"
            ) from error
        if str(rows.dtype) != f"torch.{kind}" or rows.shape != (count, *shape):
            raise VerificationError(
                f"{what} gives {_form(rows)} for {_batch(count)}, and its config would promise {kind} "
                f"{[count, *shape]}. {BUILT_IN}"
            )
        return rows

    return checked


def _batch(count: int) -> str:
    return f"a batch of {count} image{'s' if count > 1 else ''}"


def _form(rows: torch.Tensor) -> str:
    return f"{str(rows.dtype).removeprefix('torch.')} {list(rows.shape)}"
