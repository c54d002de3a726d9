"""Whether an artifact computes what its network computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.errors import ManifestError, VerificationError
from builder.types import Check, Predict

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from builder.recipe import PreprocessRecipe

SAMPLES = Path(__file__).parent / "samples"
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})

MAX_ABS_ERROR = 1e-5
# Untrained and saturated networks give nearly the same probabilities for every image, so that an
# artifact that ignored its input could pass an absolute limit. It cannot pass this one: the error,
# over the difference that the images themselves make.
MAX_RELATIVE_ERROR = 0.05
# Log-probabilities are compared where float32 still resolves them.
LOG_FLOOR = 1e-6
LOG_NOISE = 1e-5


def image_files(folder: Path | None) -> list[Path]:
    """The images to verify with, in a stable order: the folder's, or the photos of this package."""
    if folder is not None and not folder.is_dir():
        raise ManifestError(f"{folder} is not a folder; name one with images, or leave the key out")
    found = sorted(p for p in (folder or SAMPLES).rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise ManifestError(f"there are no images in {folder}; put some there, or leave the key out")
    return found


def evaluation_tensors(files: list[Path], recipe: PreprocessRecipe, count: int) -> torch.Tensor:
    """float32 [count, C, H, W]: real images through the reference transform.

    Where there are fewer files than `count`, they come again mirrored, then turned upside down.
    """
    import torch

    transform = recipe.reference_transform()
    pictures = _pictures(files, recipe)
    return torch.stack([transform(next(pictures)) for _ in range(count)])


def _pictures(files: list[Path], recipe: PreprocessRecipe) -> Iterator[Image.Image]:
    from PIL import ImageOps

    turns: list[Callable[[Any], Any]] = [lambda image: image, ImageOps.mirror, ImageOps.flip]
    while True:
        for turn in turns:
            for file in files:
                yield turn(_decoded(file, recipe))


def _decoded(file: Path, recipe: PreprocessRecipe) -> Image.Image:
    try:
        return recipe.decode(file)
    except Exception as error:  # Pillow raises whatever a broken file makes it stumble over
        raise ManifestError(f"{file} cannot be decoded: {error}; remove it") from None


def batch_sizes(max_batch_size: int) -> tuple[int, ...]:
    return tuple(sorted({1, min(2, max_batch_size), max_batch_size}))


def outputs(predict: Predict, images: torch.Tensor, sizes: tuple[int, ...]) -> list[torch.Tensor]:
    """Probabilities [images, classes] at each batch size; small batches get the first few images alone."""
    import torch

    few = 4
    return [torch.cat([predict(batch) for batch in torch.split(images[: max(size, few)], size)]) for size in sizes]


def compare(references: list[torch.Tensor], results: list[torch.Tensor], sizes: tuple[int, ...]) -> Check:
    """The figures of one artifact; `references` and `results` come from `outputs`."""
    import torch

    reference, result = torch.cat(references).double(), torch.cat(results).double()
    errors = (reference - result).abs()
    agreement = (reference.argmax(1) == result.argmax(1)).double().mean()
    return Check(
        batch_sizes=sizes,
        images=max(len(rows) for rows in references),
        max_abs_error=errors.max().item(),
        mean_abs_error=errors.mean().item(),
        top1_agreement=agreement.item(),
        relative_error=_relative_error(reference, result),
    )


def _relative_error(reference: torch.Tensor, result: torch.Tensor) -> float:
    logs, others = reference.clamp_min(LOG_FLOOR).log(), result.clamp_min(LOG_FLOOR).log()
    spread = (logs.amax(0) - logs.amin(0)).max()
    error = ((logs - others).abs() - LOG_NOISE).clamp_min(0).max()
    return 0.0 if error == 0 else (error / spread).item()


def require(check: Check, what: str) -> None:
    """Raise VerificationError, with the figures, unless `check` holds."""
    failures = []
    if not check.max_abs_error <= MAX_ABS_ERROR:  # so written that NaN fails
        failures.append(f"probabilities differ by up to {check.max_abs_error:.2e} (limit {MAX_ABS_ERROR:.0e})")
    if check.top1_agreement < 1:
        failures.append(f"top-1 agrees on {check.top1_agreement:.1%} of the images (limit 100%)")
    if not check.relative_error <= MAX_RELATIVE_ERROR:
        failures.append(
            f"the error is {check.relative_error:.2g} of what the images change (limit {MAX_RELATIVE_ERROR})"
        )
    if failures:
        sizes = ", ".join(str(size) for size in check.batch_sizes)
        raise VerificationError(
            f"{what} does not compute what the network computes: {'; '.join(failures)}; {check.images} images "
            f"at batch sizes {sizes}, mean error {check.mean_abs_error:.2e}. Nothing was published. A forward() "
            "that branches on data or on the batch size is the usual cause; another `format:` may fit it"
        )


def require_probabilities(reference: torch.Tensor, name: str) -> None:
    """Raise VerificationError unless [B, classes] rows are finite and sum to 1."""
    import torch

    if not torch.isfinite(reference).all():
        raise VerificationError(
            f"{name}: the network itself gives NaN or infinite probabilities on real images; its weights are "
            "damaged, or the recipe is not the one it was trained with"
        )
    if (reference.sum(1) - 1).abs().max() > 1e-3 or reference.min() < 0:
        raise VerificationError(f"{name}: with `activation: none` the network must give probabilities itself")
