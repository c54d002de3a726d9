"""An artifact's detections against its network's, over all pictures and batch sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from builder.errors import VerificationError
from builder.tasks.detection.limits import Tolerance
from builder.tasks.detection.matching import Match
from builder.types import Verification

if TYPE_CHECKING:
    from collections.abc import Callable

SHOWN = 3


@dataclass(frozen=True)
class DetectionVerification(Verification):
    """How an artifact's detections differ. `max_abs_error` and `mean_abs_error` are of scores."""

    found_agreement: float
    """Share of detections that both have, 0..1: of the network's, or of the artifact's, whichever is less."""
    box_error: float
    """Pixels of the picture: the largest difference of a corner's coordinates."""
    undecided: float
    """Share of detections that lie at a threshold, or had an equal rival, and count neither way."""
    network_map: float | None
    artifact_map: float | None
    """COCO's mean average precision, where the pictures are annotated."""
    worst: tuple[str, ...]
    """The pictures with the most detections that one of the two has alone."""

    def figures(self) -> dict[str, float]:
        return super().figures() | {"score_error": self.max_abs_error}

    def with_names(self, rename: Callable[[str], str]) -> DetectionVerification:
        from dataclasses import replace

        return replace(self, worst=tuple(rename(name) for name in self.worst))


@dataclass
class Tally:
    """Figures gathered picture by picture."""

    matches: list[tuple[str, Match]] = field(default_factory=list)

    def figures(
        self, sizes: tuple[int, ...], samples: int, precisions: tuple[float | None, float | None]
    ) -> DetectionVerification:
        found = [one for _, one in self.matches]
        pairs, missing, added = (sum(getattr(one, key) for one in found) for key in ("pairs", "missing", "added"))
        undecided = sum(one.undecided for one in found)
        scores = [one.score_error for one in found]
        return DetectionVerification(
            batch_sizes=sizes,
            samples=samples,
            max_abs_error=max(scores),
            mean_abs_error=sum(scores) / len(scores),
            found_agreement=pairs / (pairs + max(missing, added)) if pairs + missing + added else 1.0,
            box_error=max(one.box_error for one in found),
            undecided=undecided / max(1, 2 * pairs + missing + added + undecided),
            network_map=precisions[0],
            artifact_map=precisions[1],
            worst=self._worst(),
        )

    def _worst(self) -> tuple[str, ...]:
        alone = {name: one.missing + one.added for name, one in self.matches if one.missing + one.added}
        return tuple(sorted(alone, key=lambda name: -alone[name])[:SHOWN])


def require(found: DetectionVerification, allowed: Tolerance, what: str) -> None:
    """Raise VerificationError, with the figures, unless `found` is within what is allowed. NaN is not."""
    failures = failures_of(found, allowed)
    if not failures:
        return
    worst = f"; most in {', '.join(found.worst)}" if found.worst else ""
    raise VerificationError(
        f"{what} does not find what the network finds: {'; '.join(failures)}{worst}; {found.samples} images at batch "
        f"sizes {', '.join(map(str, found.batch_sizes))}. Nothing was published. If that is too strict for the "
        "precision, `tolerance:` sets the limits; another `format:` may fit forward()"
    )


def failures_of(found: DetectionVerification, allowed: Tolerance) -> Sequence[str]:
    failures = []
    if allowed.found_agreement is not None and not found.found_agreement >= allowed.found_agreement:
        failures.append(f"{found.found_agreement:.2%} of the detections agree (limit {allowed.found_agreement:.2%})")
    for value, limit, text in (
        (found.box_error, allowed.box_error, "corners differ by up to {:.3g} pixels"),
        (found.max_abs_error, allowed.score_error, "scores differ by up to {:.2e}"),
    ):
        if limit is not None and not value <= limit:
            failures.append(f"{text.format(value)} (limit {limit:.3g})")
    ours, theirs, limit = found.network_map, found.artifact_map, allowed.map_loss
    if limit is not None and ours is not None and theirs is not None and not ours - theirs <= limit + 1e-9:
        failures.append(f"mAP falls from {ours:.4f} to {theirs:.4f} (limit {limit:.4f})")
    return failures
