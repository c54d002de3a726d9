"""Epochs: the steps, the held-out images, and where a run can be taken up again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from builder.errors import BuilderError, TrainingError
from builder.training.data import decoded, mixed
from builder.training.placement import Placement
from builder.training.setup import AUXILIARY_SHARE, Setup
from builder.training.spec import TrainingSpec
from builder.training.trainable import set_trainable
from builder.util.reasons import reason

if TYPE_CHECKING:
    import torch
    from torch import nn

ONE_VALUE = "Expected more than 1 value per channel"
# How often a GPU is asked whether the loss is a number: asking waits for it.
STEPS_BETWEEN_LOOKS = 50


@dataclass
class Sums:
    """Loss, right answers and number of images of an epoch so far: tensors of no dimension, on the device."""

    loss: torch.Tensor
    correct: torch.Tensor
    images: int = 0

    @staticmethod
    def none(placement: Placement) -> Sums:
        import torch

        return Sums(
            torch.zeros((), device=placement.device), torch.zeros((), device=placement.device, dtype=torch.int64)
        )

    def add(self, loss: torch.Tensor, logits: torch.Tensor, classes: torch.Tensor) -> None:
        count = len(classes)
        self.loss += loss.detach() * count
        self.correct += (logits.detach().argmax(1) == classes).sum()
        self.images += count

    def means(self, placement: Placement) -> tuple[float, float]:
        """Loss and accuracy, of all processes."""
        import torch

        own = torch.stack([self.loss.double(), self.correct.double(), self.loss.new_tensor(self.images).double()])
        loss, correct, images = placement.summed(own).tolist()
        return loss / images, correct / images


@dataclass
class Progress:
    """How far a run is."""

    epoch: int = 1
    """The one that runs, or is next."""
    step: int = 0
    """Steps of it that are done."""
    seconds: float = 0
    """Seconds that the epoch has taken, before it was resumed included."""
    history: list[dict[str, float]] = field(default_factory=list)
    """A record an epoch."""
    best: dict[str, Any] = field(default_factory=dict)
    """The best epoch's record, with its metrics."""


def rate(spec: TrainingSpec, epochs_done: float) -> float:
    """The share of the learning rate that a step begins with."""
    schedule, share = spec.schedule, epochs_done / spec.epochs
    if schedule.name == "onecycle":  # up in the first 30 %, then down to nothing
        rise = 0.3
        if share < rise:
            return _between(1 / 25, 1, share / rise)
        return _between(1, 1e-4 / 25, (share - rise) / (1 - rise))
    if epochs_done < schedule.warmup_epochs:
        return max(1e-3, epochs_done / schedule.warmup_epochs)
    if schedule.name == "cosine":
        warm = schedule.warmup_epochs
        return _between(1, 0, (epochs_done - warm) / max(spec.epochs - warm, 1e-9))
    if schedule.name == "step":
        return float(schedule.gamma ** (int(epochs_done) // schedule.step_epochs))
    return 1.0


def _between(start: float, end: float, share: float) -> float:
    """Along a half wave of the cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * min(1.0, share))) / 2


def begin_epoch(setup: Setup, progress: Progress) -> None:
    """What follows from the epoch's number alone: what learns, the order, and, unless resumed within it, the chance."""
    import torch

    everything = setup.spec.unfreeze and progress.epoch >= setup.spec.unfreeze.epoch
    names = {name for name, _ in setup.module.named_parameters()} if everything else setup.trainable
    set_trainable(setup.module, names)
    if not hasattr(setup, "model") or progress.epoch == (setup.spec.unfreeze and setup.spec.unfreeze.epoch):
        setup.model = shared(setup.module, setup.placement)
    setup.batches.epoch, setup.batches.start = progress.epoch, progress.step
    if progress.step == 0:
        torch.manual_seed(mixed(setup.spec.seed, progress.epoch, setup.placement.rank))


def shared(module: nn.Module, placement: Placement) -> nn.Module:
    """The module whose gradients are the mean over all processes."""
    from torch.nn.parallel import DistributedDataParallel

    if placement.world == 1:
        return module
    return DistributedDataParallel(module, device_ids=[placement.device.index] if placement.on_gpu else None)


def train_epoch(setup: Setup, progress: Progress, sums: Sums, after_step: Callable[[], None]) -> None:
    """The rest of the epoch. `after_step` may raise to end the run. Raises TrainingError."""
    base_rates = [group.setdefault("full_lr", group["lr"]) for group in setup.optimizer.param_groups]
    for images, classes in decoded(setup.train):
        share = rate(setup.spec, progress.epoch - 1 + progress.step / setup.steps)
        for group, full in zip(setup.optimizer.param_groups, base_rates, strict=True):
            group["lr"] = full * share
        step(setup, images, classes, sums)
        progress.step += 1
        if not setup.placement.on_gpu or progress.step % STEPS_BETWEEN_LOOKS == 0:
            require_number(sums, progress)
        after_step()
    require_number(sums, progress)


def step(setup: Setup, images: torch.Tensor, classes: torch.Tensor, sums: Sums) -> None:
    import torch

    placement, spec = setup.placement, setup.spec
    images, classes = placement.placed(images), classes.to(placement.device, non_blocking=True)
    with foreign(setup), placement.autocast():
        logits, *more = setup.scores(setup.model(images), len(images))
        loss = setup.criterion(logits, classes) + AUXILIARY_SHARE * sum(
            setup.criterion(scores, classes) for scores in more
        )
    with foreign(setup):
        setup.scaler.scale(loss).backward()
    if spec.clip:
        setup.scaler.unscale_(setup.optimizer)
        torch.nn.utils.clip_grad_norm_(setup.module.parameters(), spec.clip)
    setup.scaler.step(setup.optimizer)
    setup.scaler.update()
    setup.optimizer.zero_grad(set_to_none=True)
    sums.add(loss, logits, classes)


@contextmanager
def foreign(setup: Setup) -> Iterator[None]:
    """What a network's own code does wrong, which training alone may meet. Raises TrainingError."""
    import torch

    try:
        yield
    except (BuilderError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if "can't allocate memory" in str(error):
            raise
        said = reason(error)
        more = "; batch normalisation needs several images a batch: raise batch_size" * (ONE_VALUE in said)
        raise TrainingError(
            f"{setup.spec.network} fails while it trains: {type(error).__name__}: {said}{more}"
        ) from error


def require_number(sums: Sums, progress: Progress) -> None:
    if not math.isfinite(sums.loss.item()):
        raise TrainingError(
            f"the loss is no number any more, in epoch {progress.epoch} by step {progress.step}; the checkpoint before "
            "that is kept. Lower lr, set clip: 1.0, or look for images that are not what they should be; then --fresh"
        )


def evaluate(setup: Setup) -> dict[str, Any]:
    """Loss, accuracy, and what torchmetrics makes of the held-out images."""
    import torch

    metrics = _metrics(setup)
    sums = Sums.none(setup.placement)
    setup.module.eval()
    with torch.inference_mode():
        for images, classes in decoded(setup.heldout):
            classes = classes.to(setup.placement.device, non_blocking=True)
            with foreign(setup), setup.placement.autocast():
                logits = setup.scores(setup.module(setup.placement.placed(images)), len(images))[0]
                loss = setup.criterion(logits, classes)
            sums.add(loss, logits, classes)
            metrics.update(logits.float(), classes)
        found = {name: value.cpu().tolist() for name, value in metrics.compute().items()}
    loss, accuracy = sums.means(setup.placement)
    return {"loss": loss, "accuracy": accuracy} | found


def _metrics(setup: Setup) -> Any:
    from torchmetrics import MetricCollection
    from torchmetrics.classification import (
        MulticlassAccuracy,
        MulticlassConfusionMatrix,
        MulticlassF1Score,
        MulticlassPrecision,
        MulticlassRecall,
    )

    count = setup.classes
    each: dict[str, Any] = {"num_classes": count, "average": None, "validate_args": False}
    return MetricCollection(
        {
            "top5": MulticlassAccuracy(count, top_k=min(5, count), average="micro", validate_args=False),
            "precision": MulticlassPrecision(**each),
            "recall": MulticlassRecall(**each),
            "f1": MulticlassF1Score(**each),
            "confusion": MulticlassConfusionMatrix(count, validate_args=False),
        }
    ).to(setup.placement.device)


def snapshot(setup: Setup, progress: Progress, sums: Sums) -> dict[str, Any]:
    """Everything that a resumed run needs to end as it would have."""
    import torch

    chance = [torch.get_rng_state()]
    if setup.placement.on_gpu:
        chance.append(torch.cuda.get_rng_state(setup.placement.device))
    return {
        "module": setup.module.state_dict(),
        "optimizer": setup.optimizer.state_dict(),
        "scaler": setup.scaler.state_dict(),
        "chance": chance,
        "progress": asdict(progress),
        "sums": [sums.loss, sums.correct, sums.images],
    }


def restore(setup: Setup, state: dict[str, Any]) -> tuple[Progress, Sums]:
    import torch

    setup.module.load_state_dict(state["module"])
    setup.optimizer.load_state_dict(state["optimizer"])
    setup.scaler.load_state_dict(state["scaler"])
    progress = Progress(**state["progress"])
    torch.set_rng_state(state["chance"][0])
    if setup.placement.on_gpu and len(state["chance"]) > 1:
        torch.cuda.set_rng_state(state["chance"][1], setup.placement.device)
    loss, correct, images = state["sums"]
    return progress, Sums(loss.to(setup.placement.device), correct.to(setup.placement.device), images)
