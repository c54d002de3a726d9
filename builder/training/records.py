"""What a run leaves for people: the table of its epochs, TensorBoard's events, and charts."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from builder.errors import TrainingError
from builder.machine import signals
from builder.training import checkpoint

COLUMNS = (
    "epoch", "train_loss", "train_accuracy", "loss", "accuracy", "top5", "lr", "seconds", "images_per_s",
)  # fmt: skip
"""Loss and accuracy without `train_` are those of the held-out images."""
LOG = "log.csv"
CURVES, CONFUSION = "curves.png", "confusion.png"
# Beyond that, numbers in the cells would be specks.
MOST_NUMBERED = 20


def write_log(folder: Path, history: Sequence[dict[str, float]]) -> None:
    """The whole table anew, so that a resumed run has each epoch once. Raises TrainingError."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows({key: f"{value:.6g}" for key, value in record.items()} for record in history)
    checkpoint.write_text(folder / LOG, text.getvalue())


class Events:
    """Writes what `tensorboard --logdir` shows."""

    def __init__(self, folder: Path, next_epoch: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # What a run that was cut off wrote of this epoch and later ones is not shown.
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=next_epoch)

    def add(self, record: dict[str, float]) -> None:
        try:
            with signals.held():  # or its thread might not hear of a line, and flushing would wait for minutes
                for key, value in record.items():
                    if key != "epoch":
                        self._writer.add_scalar(key, value, int(record["epoch"]))
                self._writer.flush()
        except OSError as error:  # of the thread that writes
            raise TrainingError(
                f"{self._writer.log_dir} cannot be written: {error.strerror}; make room and start again"
            ) from None

    def close(self) -> None:
        self._writer.close()


def can_draw() -> bool:
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return False
    return True


def draw_curves(folder: Path, history: Sequence[dict[str, float]], best: int) -> None:
    """Loss and accuracy over the epochs. Raises TrainingError."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    epochs = [record["epoch"] for record in history]
    for axes, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for key, label in ((f"train_{quantity}", "training"), (quantity, "held out")):
            axes.plot(epochs, [record[key] for record in history], marker=".", label=label)
        axes.axvline(best, linestyle=":", color="grey", label=f"best: {best}")
        axes.set(xlabel="epoch", ylabel=quantity)
        axes.legend()
    _save(figure, folder / CURVES)


def draw_confusion(folder: Path, confusion: Sequence[Sequence[int]], labels: Sequence[str]) -> None:
    """Rows are true classes, columns the network's. Raises TrainingError."""
    from matplotlib.figure import Figure

    count = len(labels)
    side = min(20.0, 3 + 0.35 * count)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    shares = [[value / (sum(row) or 1) for value in row] for row in confusion]
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the true class")
    axes.set(xlabel="answer", ylabel="truth", xticks=range(count), yticks=range(count))
    axes.set_xticklabels(labels, rotation=90)
    axes.set_yticklabels(labels)
    for i, row in enumerate(confusion if count <= MOST_NUMBERED else ()):
        for j, value in enumerate(row):
            if value:
                axes.text(j, i, str(value), ha="center", va="center", color="white" if shares[i][j] > 0.5 else "black")
    _save(figure, folder / CONFUSION)


def _save(figure: Any, path: Path) -> None:
    checkpoint.write(path, lambda partial: figure.savefig(partial, format="png", dpi=120))
