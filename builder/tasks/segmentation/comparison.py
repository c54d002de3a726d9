"""Whether an artifact gives the masks that its network gives: through the served step, at the size that clients get."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from builder.errors import VerificationError
from builder.steps import STEPS
from builder.steps.mask import MaskSettings
from builder.tasks.images.running import BUILT_IN, batch_sizes, outputs
from builder.tasks.segmentation import truths
from builder.tasks.segmentation.classes import spread
from builder.tasks.segmentation.details import Details
from builder.tasks.segmentation.limits import LIMITS, Tolerance
from builder.tasks.task import Entry, Reference
from builder.types import Predict, Verification
from builder.util.reasons import reason

if TYPE_CHECKING:
    import torch

STEP = "mask"


@dataclass(frozen=True)
class SegmentationVerification(Verification):
    """How an artifact's masks differ from its network's. Errors are shares of the pixels of one picture."""

    pixel_agreement: float
    """Share of the decided pixels of all pictures that are of the same class."""
    iou_agreement: float
    """Mean intersection over union of the classes, of both masks."""
    undecided: float
    """Share of the pixels whose two first classes are a tie, which are not compared."""
    network_miou: float | None
    artifact_miou: float | None
    """With the true masks, where there are some."""
    worst: str
    """The picture with the largest error."""

    def with_names(self, rename: Callable[[str], str]) -> SegmentationVerification:
        return replace(self, worst=rename(self.worst))


def verify(entry: Entry, reference: Reference, predict: Predict) -> SegmentationVerification:
    """Run the artifact on the images at every batch size. Raises VerificationError where it cannot be compared."""
    sizes = batch_sizes(entry.spec.max_batch_size)
    details: Details = reference.details
    (given,), (classes,) = reference.signature.inputs, reference.signature.outputs
    what = f"{entry.name} as {entry.spec.format}"
    run = held(lambda batch: predict({given.name: batch})[classes.name], details.settings, what)
    return compare(reference.answers, outputs(run, details.images, sizes), sizes, details)


def limits(precision: str, changes: Tolerance) -> Tolerance:
    """The precision's own limits with those that the manifest sets."""
    own = LIMITS.get(precision, LIMITS["int8"])
    return own.model_copy(update=changes.model_dump(exclude_unset=True))


def held(run: Callable[[torch.Tensor], torch.Tensor], settings: MaskSettings, what: str) -> Any:
    """float32 [B, C, H, W] -> uint8 [B, H, W], held to what the config will say. Raises VerificationError."""
    import torch

    step: Any = STEPS[STEP].function(settings)

    def checked(batch: torch.Tensor) -> torch.Tensor:
        try:
            given = run(batch)
        except Exception as error:  # a runtime's own errors: the artifact is at fault whatever they are
            raise VerificationError(
                f"{what} fails on a batch of {len(batch)}: {reason(error).rstrip('.')}. {BUILT_IN}"
            ) from error
        if tuple(given.shape) != (len(batch), *settings.shape):
            raise VerificationError(
                f"{what} gives {list(given.shape)} for a batch of {len(batch)}, and its config would promise "
                f"{[len(batch), *settings.shape]}. {BUILT_IN}"
            )
        try:
            return torch.stack([torch.from_numpy(step.of_input(one)) for one in given.numpy()])
        except ValueError as error:
            raise VerificationError(f"{what}: {error}") from None

    return checked


class Tally:
    """The figures as picture after picture is compared."""

    def __init__(self) -> None:
        self.both, self.network, self.artifact = truths.Overlap(), truths.Overlap(), truths.Overlap()
        self.pixels = self.decided = self.unequal = self.pictures = 0
        self.errors = self.largest = 0.0
        self.worst = ""

    def add(self, ours: torch.Tensor, theirs: torch.Tensor, decided: torch.Tensor, name: str) -> None:
        unequal, count = int((ours != theirs)[decided].sum()), int(decided.sum())
        error = unequal / max(1, count)
        self.both.add(ours[decided], theirs[decided])
        self.pixels, self.decided, self.unequal = (
            self.pixels + ours.numel(), self.decided + count, self.unequal + unequal
        )  # fmt: skip
        self.pictures, self.errors = self.pictures + 1, self.errors + error
        if error >= self.largest:
            self.largest, self.worst = error, name

    def hold(self, truth: torch.Tensor, ours: torch.Tensor, theirs: torch.Tensor) -> None:
        counted = truth != truths.VOID
        self.network.add(truth[counted], ours[counted])
        self.artifact.add(truth[counted], theirs[counted])

    def verification(self, sizes: tuple[int, ...], samples: int) -> SegmentationVerification:
        return SegmentationVerification(
            batch_sizes=sizes,
            samples=samples,
            max_abs_error=self.largest,
            mean_abs_error=self.errors / self.pictures,
            pixel_agreement=1 - self.unequal / max(1, self.decided),
            iou_agreement=1.0 if (found := self.both.mean_iou()) is None else found,
            undecided=1 - self.decided / max(1, self.pixels),
            network_miou=self.network.mean_iou(),
            artifact_miou=self.artifact.mean_iou(),
            worst=self.worst,
        )


def compare(
    references: list[torch.Tensor], results: list[torch.Tensor], sizes: tuple[int, ...], details: Details
) -> SegmentationVerification:
    """`references` is uint8 [B, 2, H, W] by batch size: masks, and where they are undecided."""
    tally = Tally()
    for expected, found in zip(references, results, strict=True):
        is_whole = expected is references[-1]
        for number, (reference, mask) in enumerate(zip(expected, found, strict=True)):
            _compare_one(tally, reference, mask, number, details, is_whole)
    return tally.verification(sizes, len(details.images))


def _compare_one(
    tally: Tally, reference: torch.Tensor, mask: torch.Tensor, number: int, details: Details, is_whole: bool
) -> None:
    placement = details.placements[number]
    theirs = served(details.settings, mask, placement)
    ours, decided = reference[0], reference[1] == 0
    if details.settings.size == "picture":
        ours, decided = spread(ours, placement), spread(reference[1], placement) == 0
    if theirs.shape != ours.shape:
        raise VerificationError(f"the mask is {list(theirs.shape)}, and the picture {list(ours.shape)}")
    tally.add(ours, theirs, decided, details.images.views[number].name)
    path = details.masks[number]
    if is_whole and path is not None and details.settings.size == "picture":
        tally.hold(truths.read(path, (placement[0], placement[1])), ours, theirs)


def served(settings: MaskSettings, mask: torch.Tensor, placement: tuple[int, ...]) -> torch.Tensor:
    """What the step gives to clients, uint8 [H, W]."""
    import numpy as np
    import torch
    from PIL import Image

    given = STEPS[STEP].function(settings)(mask.numpy(), np.array(placement, np.int32))
    return torch.from_numpy(np.array(Image.open(io.BytesIO(given))) if isinstance(given, bytes) else given)


def require(found: SegmentationVerification, allowed: Tolerance, what: str) -> None:
    """Raise VerificationError, with the figures and the worst image, unless `found` is within what is allowed."""
    failures = _failures(found, allowed)
    if failures:
        sizes = ", ".join(map(str, found.batch_sizes))
        raise VerificationError(
            f"{what} does not compute what the network computes: {'; '.join(failures)}; {found.samples} images at "
            f"batch sizes {sizes}. Nothing was published. The worst image: {found.worst}, of which "
            f"{found.max_abs_error:.2%} of the pixels differ. If that is too strict for the precision, `tolerance:` "
            "sets the limits. At fp32 a forward() that branches on data or on the batch size is the usual cause"
        )


def _failures(found: SegmentationVerification, allowed: Tolerance) -> list[str]:
    """So written that NaN fails."""
    failures = []
    for key, text in (
        ("pixel_agreement", "the share of equal pixels is"),
        ("iou_agreement", "the mean intersection over union of both masks is"),
    ):
        value, limit = getattr(found, key), getattr(allowed, key)
        if limit is not None and not value >= limit:
            failures.append(f"{text} {value:.4f} (limit {limit:.4g})")
    ours, theirs, limit = found.network_miou, found.artifact_miou, allowed.miou_loss
    if limit is not None and ours is not None and theirs is not None and not ours - theirs <= limit + 1e-9:
        failures.append(f"mIoU falls from {ours:.4f} to {theirs:.4f} (limit {limit:.3g})")
    return failures
