"""What a run is for: the best weights, their card and labels, images to verify with, and charts of the run."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version as package_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder import __version__
from builder.data.images import spread
from builder.data.recipe import PreprocessRecipe
from builder.networks.card import Card, absolute, card_path, relative
from builder.training import checkpoint, records
from builder.training.data import Split
from builder.training.loop import Progress
from builder.training.spec import Run
from builder.training.trainable import TrainableNetwork
from builder.util.hashing import sha256

if TYPE_CHECKING:
    from torch import nn

LABELS = "labels.txt"


def keep(run: Run, split: Split, network: TrainableNetwork, module: nn.Module, best: dict[str, Any]) -> None:
    """Weights, card and labels of the best epoch so far. Raises TrainingError."""
    weights = run.out / checkpoint.BEST
    labels = "".join(f"{label}\n" for label in split.labels)

    def write_card(partial: Path) -> None:
        card = make_card(run, split, network, weights, best, sha256(checkpoint.partial_of(weights)))
        partial.write_text(card.model_dump_json(indent=1) + "\n", encoding="utf-8")

    checkpoint.write_together(
        {
            weights: checkpoint.weights_writer(module),
            run.out / LABELS: lambda partial: partial.write_text(labels, encoding="utf-8"),
            card_path(weights): write_card,
        }
    )


def make_card(
    run: Run, split: Split, network: TrainableNetwork, weights: Path, best: dict[str, Any], digest: str
) -> Card:
    return Card(
        weights=weights.name,
        sha256=digest,
        network=relative(absolute(run.spec.network, run.base), run.out),
        arguments=network.arguments,
        recipe=network.recipe,
        labels=split.labels,
        data=_readable(split.described()),
        training=_readable(run.spec.model_dump(mode="json", exclude={"out", "arguments", "network", "labels"})),
        metrics=_metrics(best, split.labels),
        software=_software(),
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _metrics(best: dict[str, Any], labels: Sequence[str]) -> dict[str, Any]:
    """The card's metrics: of the best epoch, on the held-out images, over all and by class."""
    classes = {
        label: {key: round(best[key][number], 6) for key in ("precision", "recall", "f1")}
        for number, label in enumerate(labels)
    }
    return {key: round(best[key], 6) for key in ("epoch", "accuracy", "top5", "loss")} | {"classes": classes}


def _software() -> dict[str, str]:
    packages = {name: package_version(name) for name in ("torch", "torchvision", "torchmetrics", "pillow")}
    return {"build-repo": __version__, "python": platform.python_version()} | packages


def _readable(tree: Any) -> Any:
    """The same tree, with bytes of file names that are no UTF-8 written as escapes."""
    if isinstance(tree, dict):
        return {key: _readable(value) for key, value in tree.items()}
    return tree.encode(errors="backslashreplace").decode() if isinstance(tree, str) else tree


def write_samples(run: Run, split: Split, recipe: PreprocessRecipe) -> None:
    """PNG files in folders named by class, to verify and calibrate with. Raises TrainingError, DataError."""
    wanted = run.spec.samples
    for folder, images, count in (
        ("heldout", split.heldout, wanted.heldout),
        ("calibration", split.train, wanted.calibration),
    ):
        for number in spread(len(images), count) if count else ():
            path = run.out / folder / str(images.classes[number]) / f"{number:05}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            checkpoint.write(path, partial(images.image(number, recipe).save, format="PNG"))


def draw_charts(out: Path, progress: Progress, split: Split) -> bool:
    """Whether there is something to draw with. Raises TrainingError."""
    if not records.can_draw():
        return False
    records.draw_curves(out, progress.history, progress.best["epoch"])
    records.draw_confusion(out, progress.best["confusion"], split.labels)
    return True
