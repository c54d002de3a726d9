"""Epochs: the steps, the held-out images, and where a run can be taken up again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from builder.errors import BuilderError, TrainingError
from builder.training.config import TrainingConfig
from builder.training.data import Batches, decoded, mixed
from builder.training.machine import Machine
from builder.training.student import set_learning
from builder.util.reasons import reason

if TYPE_CHECKING:
    import torch
    from torch import nn

AUXILIARY_SHARE = 0.3
"""Of auxiliary classifiers in the loss, as GoogLeNet's paper has it."""
MAIN = ("logits", "scores", "out")
ONE_VALUE = "Expected more than 1 value per channel"
# How often a GPU is asked whether the loss is a number: asking waits for it.
STEPS_BETWEEN_LOOKS = 50


@dataclass
class Sums:
    """Of the epoch so far, on the device."""

    loss: torch.Tensor
    correct: torch.Tensor
    images: int = 0

    @staticmethod
    def none(machine: Machine) -> Sums:
        import torch

        return Sums(torch.zeros((), device=machine.device), torch.zeros((), device=machine.device, dtype=torch.int64))

    def add(self, loss: torch.Tensor, logits: torch.Tensor, classes: torch.Tensor) -> None:
        count = len(classes)
        self.loss += loss.detach() * count
        self.correct += (logits.detach().argmax(1) == classes).sum()
        self.images += count

    def means(self, machine: Machine) -> tuple[float, float]:
        """Loss and accuracy, of all processes."""
        import torch

        own = torch.stack([self.loss.double(), self.correct.double(), self.loss.new_tensor(self.images).double()])
        loss, correct, images = machine.summed(own).tolist()
        return loss / images, correct / images


@dataclass
class Progress:
    """How far a run is."""

    epoch: int = 1
    """The one that runs, or is next."""
    step: int = 0
    """Steps of it that are done."""
    seconds: float = 0
    """That it has taken."""
    history: list[dict[str, float]] = field(default_factory=list)
    """A record an epoch."""
    best: dict[str, Any] = field(default_factory=dict)
    """The best epoch's record, with its metrics."""


@dataclass
class Job:
    """All that a run works with."""

    config: TrainingConfig
    machine: Machine
    module: nn.Module
    train: Any
    """Loaders, of which the former's batches are `batches`."""
    heldout: Any
    batches: Batches
    criterion: nn.Module
    optimizer: torch.optim.Optimizer
    learning: set[str]
    """Parameters that learn from the start."""
    classes: int
    model: nn.Module = field(init=False)
    """The module, as all processes share it."""
    scaler: Any = None
    say: Callable[[str], None] = lambda _: None
    """Told what one should know of the network."""
    _is_told: bool = False

    def __post_init__(self) -> None:
        import torch

        self.scaler = torch.amp.GradScaler(
            self.machine.device.type, enabled=self.machine.mixed is torch.float16 and self.machine.on_gpu
        )

    def scores(self, output: Any, images: int) -> list[torch.Tensor]:
        """Of the classes, the network's own first, and then those of auxiliary classifiers. Raises TrainingError."""
        import torch

        parts = _parts(output)
        found = [part for part in parts if isinstance(part, torch.Tensor) and part.shape == (images, self.classes)]
        if not found or found[0] is not parts[0]:
            raise TrainingError(
                f"{self.config.network} gives {_described(output)} for {images} images of {self.classes} classes; one "
                "score a class is needed, first of what it gives"
            )
        self._tell(len(found) - 1, len(parts) - len(found))
        return found

    def _tell(self, auxiliary: int, others: int) -> None:
        if self._is_told or not auxiliary + others:
            return
        self._is_told = True
        learnt = [f"{auxiliary} auxiliary scores are learnt from by a share of {AUXILIARY_SHARE}"] * bool(auxiliary)
        aside = [f"{others} other outputs are left aside"] * bool(others)
        self.say(f"{self.config.network} gives more while it trains: {', '.join(learnt + aside)}")

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return self.batches.total


def _parts(output: Any) -> list[Any]:
    """What a network gives, the scores that it is served for first, where their name tells."""
    if isinstance(output, Mapping):
        return [output[key] for key in sorted(output, key=lambda key: key not in MAIN) if output[key] is not None]
    return [part for part in output if part is not None] if isinstance(output, tuple | list) else [output]


def _described(output: Any) -> str:
    return str(list(output.shape)) if hasattr(output, "shape") else f"a {type(output).__name__}"


def make_optimizer(module: nn.Module, config: TrainingConfig, learning: set[str]) -> torch.optim.Optimizer:
    """Two groups: what learns from the start, and, with `unfreeze`, what joins later, at a rate of its own."""
    import torch

    chosen = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[config.optimizer.name]
    groups = [{"params": [p for n, p in module.named_parameters() if n in learning], "lr": config.lr}]
    if config.unfreeze:
        rest = [p for n, p in module.named_parameters() if n not in learning]
        groups.append({"params": rest, "lr": config.unfreeze.lr})
    options: dict[str, Any] = {"weight_decay": config.optimizer.weight_decay, "fused": True}
    if config.optimizer.name == "sgd":
        options["momentum"] = config.optimizer.momentum
    made: torch.optim.Optimizer = chosen([group for group in groups if group["params"]], **options)
    return made


def rate(config: TrainingConfig, epochs_done: float) -> float:
    """The share of the learning rate that a step begins with."""
    schedule, share = config.schedule, epochs_done / config.epochs
    if schedule.name == "onecycle":  # up in the first 30 %, then down to nothing
        rise = 0.3
        if share < rise:
            return _between(1 / 25, 1, share / rise)
        return _between(1, 1e-4 / 25, (share - rise) / (1 - rise))
    if epochs_done < schedule.warmup_epochs:
        return max(1e-3, epochs_done / schedule.warmup_epochs)
    if schedule.name == "cosine":
        warm = schedule.warmup_epochs
        return _between(1, 0, (epochs_done - warm) / max(config.epochs - warm, 1e-9))
    if schedule.name == "step":
        return float(schedule.gamma ** (int(epochs_done) // schedule.step_epochs))
    return 1.0


def _between(start: float, end: float, share: float) -> float:
    """Along a half wave of the cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * min(1.0, share))) / 2


def begin_epoch(job: Job, progress: Progress) -> None:
    """What follows from the epoch's number alone: what learns, the order, and, unless resumed within it, the chance."""
    import torch

    everything = job.config.unfreeze and progress.epoch >= job.config.unfreeze.epoch
    names = {name for name, _ in job.module.named_parameters()} if everything else job.learning
    set_learning(job.module, names)
    if not hasattr(job, "model") or progress.epoch == (job.config.unfreeze and job.config.unfreeze.epoch):
        job.model = shared(job.module, job.machine)
    job.batches.epoch, job.batches.start = progress.epoch, progress.step
    if progress.step == 0:
        torch.manual_seed(mixed(job.config.seed, progress.epoch, job.machine.rank))


def shared(module: nn.Module, machine: Machine) -> nn.Module:
    """The module whose gradients are the mean over all processes."""
    from torch.nn.parallel import DistributedDataParallel

    if machine.world == 1:
        return module
    return DistributedDataParallel(module, device_ids=[machine.device.index] if machine.on_gpu else None)


def train_epoch(job: Job, progress: Progress, sums: Sums, after_step: Callable[[], None]) -> None:
    """The rest of the epoch. `after_step` may raise to end the run. Raises TrainingError."""
    base_rates = [group.setdefault("full_lr", group["lr"]) for group in job.optimizer.param_groups]
    for images, classes in decoded(job.train):
        share = rate(job.config, progress.epoch - 1 + progress.step / job.steps)
        for group, full in zip(job.optimizer.param_groups, base_rates, strict=True):
            group["lr"] = full * share
        step(job, images, classes, sums)
        progress.step += 1
        if not job.machine.on_gpu or progress.step % STEPS_BETWEEN_LOOKS == 0:
            require_number(sums, progress)
        after_step()
    require_number(sums, progress)


def step(job: Job, images: torch.Tensor, classes: torch.Tensor, sums: Sums) -> None:
    import torch

    machine, config = job.machine, job.config
    images, classes = machine.placed(images), classes.to(machine.device, non_blocking=True)
    with foreign(job), machine.autocast():
        logits, *more = job.scores(job.model(images), len(images))
        loss = job.criterion(logits, classes) + AUXILIARY_SHARE * sum(job.criterion(scores, classes) for scores in more)
    with foreign(job):
        job.scaler.scale(loss).backward()
    if config.clip:
        job.scaler.unscale_(job.optimizer)
        torch.nn.utils.clip_grad_norm_(job.module.parameters(), config.clip)
    job.scaler.step(job.optimizer)
    job.scaler.update()
    job.optimizer.zero_grad(set_to_none=True)
    sums.add(loss, logits, classes)


@contextmanager
def foreign(job: Job) -> Iterator[None]:
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
            f"{job.config.network} fails while it trains: {type(error).__name__}: {said}{more}"
        ) from error


def require_number(sums: Sums, progress: Progress) -> None:
    if not math.isfinite(sums.loss.item()):
        raise TrainingError(
            f"the loss is no number any more, in epoch {progress.epoch} by step {progress.step}; the checkpoint before "
            "that is kept. Lower lr, set clip: 1.0, or look for images that are not what they should be; then --fresh"
        )


def evaluate(job: Job) -> dict[str, Any]:
    """Loss, accuracy, and what torchmetrics makes of the held-out images."""
    import torch

    metrics = _metrics(job)
    sums = Sums.none(job.machine)
    job.module.eval()
    with torch.inference_mode():
        for images, classes in decoded(job.heldout):
            classes = classes.to(job.machine.device, non_blocking=True)
            with foreign(job), job.machine.autocast():
                logits = job.scores(job.module(job.machine.placed(images)), len(images))[0]
                loss = job.criterion(logits, classes)
            sums.add(loss, logits, classes)
            metrics.update(logits.float(), classes)
        found = {name: value.cpu().tolist() for name, value in metrics.compute().items()}
    loss, accuracy = sums.means(job.machine)
    return {"loss": loss, "accuracy": accuracy} | found


def _metrics(job: Job) -> Any:
    from torchmetrics import MetricCollection
    from torchmetrics.classification import (
        MulticlassAccuracy,
        MulticlassConfusionMatrix,
        MulticlassF1Score,
        MulticlassPrecision,
        MulticlassRecall,
    )

    count = job.classes
    each: dict[str, Any] = {"num_classes": count, "average": None, "validate_args": False}
    return MetricCollection(
        {
            "top5": MulticlassAccuracy(count, top_k=min(5, count), average="micro", validate_args=False),
            "precision": MulticlassPrecision(**each),
            "recall": MulticlassRecall(**each),
            "f1": MulticlassF1Score(**each),
            "confusion": MulticlassConfusionMatrix(count, validate_args=False),
        }
    ).to(job.machine.device)


def snapshot(job: Job, progress: Progress, sums: Sums) -> dict[str, Any]:
    """Everything that a resumed run needs to end as it would have."""
    import torch

    chance = [torch.get_rng_state()]
    if job.machine.on_gpu:
        chance.append(torch.cuda.get_rng_state(job.machine.device))
    return {
        "module": job.module.state_dict(),
        "optimizer": job.optimizer.state_dict(),
        "scaler": job.scaler.state_dict(),
        "chance": chance,
        "progress": asdict(progress),
        "sums": [sums.loss, sums.correct, sums.images],
    }


def restore(job: Job, state: dict[str, Any]) -> tuple[Progress, Sums]:
    import torch

    job.module.load_state_dict(state["module"])
    job.optimizer.load_state_dict(state["optimizer"])
    job.scaler.load_state_dict(state["scaler"])
    progress = Progress(**state["progress"])
    torch.set_rng_state(state["chance"][0])
    if job.machine.on_gpu and len(state["chance"]) > 1:
        torch.cuda.set_rng_state(state["chance"][1], job.machine.device)
    loss, correct, images = state["sums"]
    return progress, Sums(loss.to(job.machine.device), correct.to(job.machine.device), images)
