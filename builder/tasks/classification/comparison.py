"""Whether an artifact gives the probabilities that its network gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from builder.errors import VerificationError
from builder.tasks.classification.limits import Tolerance
from builder.tasks.images.running import batch_sizes, held, outputs
from builder.tasks.task import Entry, Reference
from builder.types import Predict, Verification

if TYPE_CHECKING:
    import torch

    Scores = Callable[[torch.Tensor], torch.Tensor]
    """float32 [B, C, H, W] -> scores or probabilities, float32 [B, classes]."""

# Untrained and saturated networks give nearly the same probabilities for every image, so that an
# artifact that ignored its input could pass an absolute limit. It cannot pass the two that are relative
# to the difference that the images themselves make: both are about 1 for it. The first looks at the
# worst of all; the second at the whole, which is what can be asked of rounded arithmetic.
LIMITS = {
    precision: Tolerance.model_validate(values)
    for precision, values in {
        "fp32": {"max_abs_error": 1e-5, "relative_error": 0.05, "top1_agreement": 1, "accuracy_loss": 0},
        "fp16": {"max_abs_error": 0.02, "noise": 0.1, "top1_agreement": 0.99, "accuracy_loss": 0.005},
        "bf16": {"max_abs_error": 0.1, "noise": 0.3, "top1_agreement": 0.97, "accuracy_loss": 0.01},
        "int8": {"max_abs_error": 0.5, "noise": 0.75, "top1_agreement": 0.9, "accuracy_loss": 0.01},
    }.items()
}
"""What each precision may cost if the manifest does not say otherwise."""

# Log-probabilities are compared where float32 still resolves them.
LOG_FLOOR = 1e-6
LOG_NOISE = 1e-5
# Two classes as near as this are a tie to rounded arithmetic: either is the answer. To fp32 there are none.
TIE = 1e-3
SUM_ERROR = 1e-3
LABELLED = 0.5
"""From this probability on a class is taken to be right, where several may be."""
WORST = 3


class Compared(Protocol):
    """What both were run on: pictures, or texts."""

    def __len__(self) -> int: ...

    @property
    def views(self) -> Sequence[Any]:
        """Each has a `name`."""

    @property
    def classes(self) -> tuple[int | None, ...]:
        """The true class of each, where it is known."""


@dataclass(frozen=True)
class WorstImage:
    """One of the images that an artifact is furthest off on."""

    image: str
    error: float
    """Of its worst probability."""
    expected: int
    expected_probability: float
    """The network's class, and the network's probability of it."""
    found: int
    found_probability: float
    """The artifact's class, and the artifact's probability of it."""


@dataclass(frozen=True)
class ClassificationVerification(Verification):
    """How an artifact's probabilities differ from its network's, over all images and batch sizes."""

    relative_error: float
    """Largest error of a log-probability, over the largest spread that the images cause in one."""
    noise: float
    """Error of the log-probabilities, over what the images change in them (both root mean squares)."""
    top1_agreement: float
    """Share of images, 0..1, for which the network's answer is the artifact's, ties included. Where several classes may
    be right, an answer is all of them at 0.5 and above."""
    top5_agreement: float
    """Share of images for which the network's best class is among the artifact's first five."""
    network_accuracy: float | None
    artifact_accuracy: float | None
    """Share of right answers, where the images are labelled."""
    worst: tuple[WorstImage, ...]

    def with_names(self, rename: Callable[[str], str]) -> ClassificationVerification:
        return replace(self, worst=tuple(replace(image, image=rename(image.image)) for image in self.worst))


def verify(entry: Entry, reference: Reference, predict: Predict) -> ClassificationVerification:
    """Run the artifact on the images at every batch size. Raises VerificationError where it cannot be compared."""
    sizes = batch_sizes(entry.spec.max_batch_size)
    (given,), (scores,) = reference.signature.inputs, reference.signature.outputs
    run = held(lambda batch: predict({given.name: batch})[scores.name], scores.shape[0], _what(entry))
    details = reference.details
    results = outputs(run, details.images, sizes)
    return compare(reference.answers, results, sizes, details.images, entry.spec.precision, details.is_multilabel)


def _what(entry: Entry) -> str:
    return f"{entry.name} as {entry.spec.format}"


def limits(precision: str, changes: Tolerance) -> Tolerance:
    """The precision's own limits with those that the manifest sets."""
    return LIMITS[precision].model_copy(update=changes.model_dump(exclude_unset=True))


def compare(
    references: list[torch.Tensor],
    results: list[torch.Tensor],
    sizes: tuple[int, ...],
    images: Compared,
    precision: str = "fp32",
    is_multilabel: bool = False,
) -> ClassificationVerification:
    """The figures of one artifact; `references` and `results` come from `outputs`."""
    import torch

    tie = 0 if precision == "fp32" else TIE

    reference, result = torch.cat(references).double(), torch.cat(results).double()
    errors = (reference - result).abs()
    truths = images.classes
    return ClassificationVerification(
        batch_sizes=sizes,
        samples=len(images),
        max_abs_error=errors.max().item(),
        mean_abs_error=errors.mean().item(),
        relative_error=_relative_error(reference, result, is_multilabel),
        noise=_noise(reference, result, is_multilabel),
        top1_agreement=(
            _agreement_of_labels(reference, result, tie) if is_multilabel else _agreement(reference, result, 1, tie)
        ),
        top5_agreement=_agreement(reference, result, 5, tie),
        network_accuracy=_accuracy(references[-1], truths),
        artifact_accuracy=_accuracy(results[-1], truths),
        worst=_worst(references[-1], results[-1], images),
    )


def _relative_error(reference: torch.Tensor, result: torch.Tensor, is_multilabel: bool) -> float:
    logs, errors = _logarithms(reference, result, is_multilabel)
    spread = (logs.amax(0) - logs.amin(0)).max()
    error = errors.max()
    return 0.0 if error == 0 else (error / spread).item()


def _noise(reference: torch.Tensor, result: torch.Tensor, is_multilabel: bool) -> float:
    logs, errors = _logarithms(reference, result, is_multilabel)
    signal = (logs - logs.mean(0)).square().mean().sqrt()
    error = errors.square().mean().sqrt()
    return 0.0 if error == 0 else (error / signal).item()


def _logarithms(
    reference: torch.Tensor, result: torch.Tensor, is_multilabel: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """The reference's log-probabilities, and the result's errors in them, as far as float32 resolves them.

    Of classes that are right or not by themselves, the logarithms of the odds.
    """
    if is_multilabel:
        logs, others = reference.logit(LOG_FLOOR), result.logit(LOG_FLOOR)
    else:
        logs, others = reference.clamp_min(LOG_FLOOR).log(), result.clamp_min(LOG_FLOOR).log()
    return logs, ((logs - others).abs() - LOG_NOISE).clamp_min(0)


def _agreement(reference: torch.Tensor, result: torch.Tensor, first: int, tie: float) -> float:
    """Share of rows for which the reference's answer, or one that ties with it, is among the result's first."""
    found = result.topk(min(first, result.shape[1]), dim=1).indices
    best = reference.amax(1, keepdim=True)
    agrees = (reference.gather(1, found) >= best - tie).any(1)
    return agrees.double().mean().item()


def _agreement_of_labels(reference: torch.Tensor, result: torch.Tensor, tie: float) -> float:
    """Share of rows with the same classes at 0.5 and above; those within `tie` of it are either."""
    agrees = ((reference >= LABELLED) == (result >= LABELLED)) | ((reference - LABELLED).abs() <= tie)
    return agrees.all(1).double().mean().item()


def _accuracy(rows: torch.Tensor, truths: tuple[int | None, ...]) -> float | None:
    known = [(i, truth) for i, truth in enumerate(truths) if truth is not None]
    if not known:
        return None
    found = rows.argmax(1).tolist()
    right = [found[i] == truth for i, truth in known]
    return float(sum(right) / len(right))


def _worst(reference: torch.Tensor, result: torch.Tensor, images: Compared) -> tuple[WorstImage, ...]:
    errors = (reference - result).abs().amax(1).nan_to_num(nan=2.0)
    worst = errors.topk(min(WORST, len(errors))).indices.tolist()
    expected, found = reference.max(1), result.max(1)
    return tuple(
        WorstImage(
            image=images.views[i].name,
            error=errors[i].item(),
            expected=int(expected.indices[i]),
            expected_probability=expected.values[i].item(),
            found=int(found.indices[i]),
            found_probability=found.values[i].item(),
        )
        for i in worst
    )


def require(
    found: ClassificationVerification,
    allowed: Tolerance,
    what: str,
    labels: tuple[str, ...] | None = None,
    samples: str = "images",
) -> None:
    """Raise VerificationError, with the figures and the worst images, unless `found` is within what is allowed."""
    failures = _failures(found, allowed, samples)
    if not failures:
        return
    sizes = ", ".join(str(size) for size in found.batch_sizes)
    worst = "\n".join(f"  {_described(image, labels)}" for image in found.worst)
    raise VerificationError(
        f"{what} does not compute what the network computes: {'; '.join(failures)}; {found.samples} {samples} "
        f"at batch sizes {sizes}, mean error {found.mean_abs_error:.2e}. Nothing was published. The worst {samples}:\n"
        f"{worst}\n"
        "If that is too strict for the precision, `tolerance:` sets the limits. At fp32 a forward() that branches on "
        "data or on the batch size is the usual cause; another `format:` may fit it"
    )


def _failures(found: ClassificationVerification, allowed: Tolerance, samples: str) -> list[str]:
    """So written that NaN fails."""
    failures = []
    for key, text in (
        ("max_abs_error", "probabilities differ by up to"),
        ("mean_abs_error", "probabilities differ on average by"),
        ("relative_error", f"the largest error, as a share of what the {samples} change, is"),
        ("noise", f"the noise, as a share of what the {samples} change, is"),
    ):
        value, limit = getattr(found, key), getattr(allowed, key)
        if limit is not None and not value <= limit:
            failures.append(f"{text} {value:.2e} (limit {limit:.3g})")
    for key, text in (("top1_agreement", "top-1 agrees"), ("top5_agreement", "the answer is among the first five")):
        value, limit = getattr(found, key), getattr(allowed, key)
        if limit is not None and not value >= limit:
            failures.append(f"{text} on {value:.1%} of the {samples} (limit {limit:.1%})")
    return failures + _lost_accuracy(found, allowed.accuracy_loss)


def _lost_accuracy(found: ClassificationVerification, limit: float | None) -> list[str]:
    if limit is None or found.network_accuracy is None or found.artifact_accuracy is None:
        return []
    loss = found.network_accuracy - found.artifact_accuracy
    if loss <= limit + 1e-9:  # differences of shares are not exact
        return []
    figures = f"{found.network_accuracy:.2%} to {found.artifact_accuracy:.2%}"
    return [f"accuracy falls from {figures}, by {loss:.2%} (limit {limit:.2%})"]


def _described(image: WorstImage, labels: tuple[str, ...] | None) -> str:
    def name(number: int) -> str:
        return labels[number] if labels else f"class {number}"

    return (
        f"{image.image}: network {name(image.expected)} {image.expected_probability:.4f}, "
        f"artifact {name(image.found)} {image.found_probability:.4f}, error {image.error:.2e}"
    )


def require_probabilities(reference: torch.Tensor, is_multilabel: bool, name: str, samples: str = "images") -> None:
    """Raise VerificationError unless [B, classes] rows are finite, and sum to 1 where one class alone is right."""
    import torch

    if not torch.isfinite(reference).all():
        recipe = ", or the recipe is not the one it was trained with" if samples == "images" else ""
        raise VerificationError(
            f"{name}: the network itself gives NaN or infinite probabilities on real {samples}; its weights are "
            f"damaged{recipe}"
        )
    if reference.min() < 0 or reference.max() > 1 + SUM_ERROR:
        raise VerificationError(f"{name}: with `activation: none` the network must give probabilities itself")
    if not is_multilabel and (reference.sum(1) - 1).abs().max() > SUM_ERROR:
        raise VerificationError(
            f"{name}: with `activation: none` the network must give probabilities itself, and rows of them must sum to "
            "1; where several classes may be right at once, set `multilabel: true`"
        )
