"""An artifact's embeddings against its network's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from builder.errors import VerificationError
from builder.tasks.embedding.limits import Tolerance
from builder.types import Verification

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

TIE = {"fp32": 1e-5}
ROUNDED_TIE = 1e-3
"""Of the cosines of two neighbours: as near as this, either is the nearest."""
TINY = 1e-12


@dataclass(frozen=True)
class EmbeddingVerification(Verification):
    """How an artifact's vectors differ from its network's, over all images and batch sizes."""

    cosine: float
    """The least one of an image's two vectors."""
    relative_error: float
    """The largest distance of an image's two vectors, over the largest distance between two images."""
    neighbour_agreement: float
    """Share of images, 0..1, whose nearest other image is the same, ties included."""
    worst: str
    """The image of the least cosine."""

    def with_names(self, rename: Callable[[str], str]) -> EmbeddingVerification:
        return replace(self, worst=rename(self.worst))


def compare(
    expected: Sequence[torch.Tensor],
    found: Sequence[torch.Tensor],
    sizes: tuple[int, ...],
    names: Sequence[str],
    precision: str = "fp32",
) -> EmbeddingVerification:
    """`expected` and `found` are float32 [images, D] for each batch size, as `images.running.outputs` gives them."""
    import torch

    ours, theirs = torch.cat(list(expected)).double(), torch.cat(list(found)).double()
    errors = (ours - theirs).abs()
    cosines = cosine(expected[-1].double(), found[-1].double())
    distance = (ours - theirs).norm(dim=1).max()
    return EmbeddingVerification(
        batch_sizes=sizes,
        samples=len(expected[-1]),
        max_abs_error=errors.max().item(),
        mean_abs_error=errors.mean().item(),
        cosine=cosine(ours, theirs).min().item(),
        relative_error=0.0 if distance == 0 else (distance / spread(expected[-1])).item(),
        neighbour_agreement=_agreement(expected[-1], found[-1], TIE.get(precision, ROUNDED_TIE)),
        worst=names[int(cosines.nan_to_num(nan=-2.0).argmin())],
    )


def cosine(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """Row by row, float64; 1 where both vectors are all zeros, and NaN where one of them is."""
    import torch

    lengths, others = ours.norm(dim=1), theirs.norm(dim=1)
    cosines = (ours * theirs).sum(1) / (lengths * others)
    return torch.as_tensor(cosines.masked_fill((lengths == 0) & (others == 0), 1.0))


def spread(vectors: torch.Tensor) -> torch.Tensor:
    """The largest distance between two of the vectors [images, D]; never nothing."""
    import torch

    return torch.cdist(vectors.double(), vectors.double()).max().clamp_min(TINY)


def _agreement(expected: torch.Tensor, found: torch.Tensor, tie: float) -> float:
    if len(expected) < 3:  # of two, each is the other's neighbour
        return 1.0
    ours, theirs = _likenesses(expected), _likenesses(found)
    chosen = ours.gather(1, theirs.argmax(1, keepdim=True))
    agrees = chosen >= ours.amax(1, keepdim=True) - tie
    return agrees.double().mean().item()


def _likenesses(vectors: torch.Tensor) -> torch.Tensor:
    """Cosines [images, images] with the others; -2 with itself."""
    import torch

    unit = torch.nn.functional.normalize(vectors.double(), dim=1)
    return (unit @ unit.T).fill_diagonal_(-2.0)


def require(found: EmbeddingVerification, allowed: Tolerance, what: str, samples: str = "images") -> None:
    """Raise VerificationError, with the figures, unless `found` is within what is allowed. NaN is not."""
    failures = []
    for key, is_least, text in (
        ("cosine", True, f"the cosine of {found.worst} is"),
        ("relative_error", False, f"the largest error, as a share of what the {samples} change, is"),
        ("neighbour_agreement", True, f"the share of {samples} with the same nearest neighbour is"),
    ):
        value, limit = getattr(found, key), getattr(allowed, key)
        if limit is not None and not (value >= limit if is_least else value <= limit):
            failures.append(f"{text} {value:.6g} (limit {limit:.6g})")
    if failures:
        raise VerificationError(
            f"{what} does not compute what the network computes: {'; '.join(failures)}; {found.samples} {samples} at "
            f"batch sizes {', '.join(map(str, found.batch_sizes))}. Nothing was published. If that is too strict for "
            "the precision, `tolerance:` sets the limits; another `format:` may fit forward()"
        )
