"""What a run works with, ready for its first step: network, loaders, loss and optimizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from builder.data.recipe import PreprocessRecipe
from builder.errors import TrainingError
from builder.training import augment, data, trainable
from builder.training.data import Batches, Examples, Split
from builder.training.placement import Placement
from builder.training.spec import Run, TrainingSpec
from builder.training.trainable import TrainableNetwork

if TYPE_CHECKING:
    import torch
    from torch import nn

AUXILIARY_SHARE = 0.3
"""Weight of each auxiliary classifier's loss, as GoogLeNet's paper has it."""
MAIN = ("logits", "scores", "out")
"""Names under which a network may give its own scores."""
PROBED = 2
"""Images that the network is tried with before its first step: batch normalisation needs more than one."""


@dataclass
class Setup:
    """All that a run works with."""

    spec: TrainingSpec
    placement: Placement
    module: nn.Module
    """float32 [B, C, H, W] -> logits [B, classes], on the placement's device."""
    train: Any
    """A DataLoader of images float32 [B, C, H, W] and classes int64 [B]; its batches are `batches`."""
    heldout: Any
    """A DataLoader of the held-out images, as `train` gives them, in their own order."""
    batches: Batches
    criterion: nn.Module
    optimizer: torch.optim.Optimizer
    trainable: set[str]
    """Parameters that learn from the start."""
    classes: int
    model: nn.Module = field(init=False)
    """The module, as all processes share it."""
    scaler: Any = None
    say: Callable[[str], None] = lambda _: None
    """Called with what a user should know of the network, in one line."""
    _is_told: bool = False

    def __post_init__(self) -> None:
        import torch

        self.scaler = torch.amp.GradScaler(
            self.placement.device.type, enabled=self.placement.mixed is torch.float16 and self.placement.on_gpu
        )

    def scores(self, output: Any, images: int) -> list[torch.Tensor]:
        """Of the classes, the network's own first, and then those of auxiliary classifiers. Raises TrainingError."""
        import torch

        parts = _outputs(output)
        found = [part for part in parts if isinstance(part, torch.Tensor) and part.shape == (images, self.classes)]
        if not found or found[0] is not parts[0]:
            raise TrainingError(
                f"{self.spec.network} gives {_described(output)} for {images} images of {self.classes} classes; one "
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
        self.say(f"{self.spec.network} gives more while it trains: {', '.join(learnt + aside)}")

    @property
    def steps(self) -> int:
        """Steps of a whole epoch."""
        return self.batches.total


def _outputs(output: Any) -> list[Any]:
    """What a network gives, the scores that it is served for first, where their name tells."""
    if isinstance(output, Mapping):
        return [output[key] for key in sorted(output, key=lambda key: key not in MAIN) if output[key] is not None]
    return [part for part in output if part is not None] if isinstance(output, tuple | list) else [output]


def _described(output: Any) -> str:
    return str(list(output.shape)) if hasattr(output, "shape") else f"a {type(output).__name__}"


def make(run: Run, placement: Placement, split: Split, network: TrainableNetwork) -> Setup:
    """Raises BuilderError, also where the network does not give a score a class for two of the images."""
    examples = _examples(run, split, network.recipe)
    _probe(network, examples["heldout"], split, run)
    module = network.module.to(placement.device, memory_format=placement.layout)  # type: ignore[call-overload]
    names = trainable.parameter_names(network, run)
    train, heldout = _loaders(run, placement, split, examples)
    return Setup(
        spec=run.spec,
        placement=placement,
        module=module,
        train=train,
        heldout=heldout,
        batches=train.batch_sampler,
        criterion=_criterion(run, split).to(placement.device),
        optimizer=_optimizer(module, run.spec, names),
        trainable=names,
        classes=len(split.labels),
    )


def _probe(network: TrainableNetwork, heldout: Examples, split: Split, run: Run) -> None:
    import torch

    images = [heldout[1, number % len(split.heldout)][0] for number in range(PROBED)]
    trainable.probe(network, torch.stack(images), len(split.labels), run.spec.network)


def _loaders(run: Run, placement: Placement, split: Split, examples: Mapping[str, Examples]) -> tuple[Any, Any]:
    """To train with, in the order of the seed, and to hold out, in its own."""
    size, ranks = run.spec.batch_size, (placement.rank, placement.world)
    batches = {
        "train": Batches(len(split.train), size, run.spec.seed, *ranks),
        "heldout": Batches(len(split.heldout), size, None, *ranks),
    }
    loaders = {}
    for name, part in split.parts():
        workers = data.worker_count(run.spec.data.workers, part, placement.on_gpu)
        loaders[name] = data.loader(examples[name], batches[name], workers, placement.on_gpu)
    return loaders["train"], loaders["heldout"]


def _examples(run: Run, split: Split, recipe: PreprocessRecipe) -> dict[str, Examples]:
    chance = run.spec.seed if augment.has_chance(run.spec.augment) else None
    transform = augment.training_transform(recipe, run.spec.augment)
    return {
        "train": Examples(split.train, recipe, transform, chance),
        "heldout": Examples(split.heldout, recipe, recipe.reference_transform(), None),
    }


def _criterion(run: Run, split: Split) -> nn.Module:
    import torch

    weights = run.spec.class_weights
    if weights == "balanced":
        counts = torch.bincount(torch.tensor(split.train.classes), minlength=len(split.labels)).clamp(min=1)
        tensor = len(split.train) / (len(split.labels) * counts.float())
    elif weights:
        if len(weights) != len(split.labels):
            raise run.error(f"there are {len(weights)} weights for {len(split.labels)} classes", "class_weights")
        tensor = torch.tensor(weights)
    else:
        tensor = None
    return torch.nn.CrossEntropyLoss(weight=tensor, label_smoothing=run.spec.label_smoothing)


def _optimizer(module: nn.Module, spec: TrainingSpec, trainable: set[str]) -> torch.optim.Optimizer:
    """Two groups: what learns from the start, and, with `unfreeze`, what joins later, at a rate of its own."""
    import torch

    chosen = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[spec.optimizer.name]
    groups = [{"params": [p for n, p in module.named_parameters() if n in trainable], "lr": spec.lr}]
    if spec.unfreeze:
        rest = [p for n, p in module.named_parameters() if n not in trainable]
        groups.append({"params": rest, "lr": spec.unfreeze.lr})
    options: dict[str, Any] = {"weight_decay": spec.optimizer.weight_decay, "fused": True}
    if spec.optimizer.name == "sgd":
        options["momentum"] = spec.optimizer.momentum
    made: torch.optim.Optimizer = chosen([group for group in groups if group["params"]], **options)
    return made
