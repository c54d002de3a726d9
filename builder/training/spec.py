"""What a training run is told: a YAML file, the command line's changes, and defaults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    ValidationError,
    model_validator,
)

from builder.data.labels import is_text
from builder.data.recipe import RecipeOverrides, resolved
from builder.data.sets import Labels, Text, UserPath, UserText
from builder.errors import ManifestError
from builder.util import documents
from builder.util.usercode import is_callable_name

Probability = Annotated[StrictFloat, Field(ge=0, le=1)]
Positive = Annotated[StrictFloat, Field(gt=0)]


class Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _named(key: str) -> BeforeValidator:
    """A scalar where a group of keys may stand is that group's first key."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str | int | float) else value)


class Data(Group):
    """Images and their classes."""

    set: Text = Field(
        "image_folder",
        description="One of those that `build-repo train --help` lists, or path/file.py:callable that returns a "
        "dataset, or one to train with and one to hold out.",
    )
    root: UserPath | None = Field(None, description="Folder of the files.")
    download: StrictBool = Field(True, description="Whether what is missing may be fetched.")
    validation: Annotated[StrictFloat, Field(gt=0, lt=1)] = Field(
        0.2, description="Share held out of each class, where the set itself holds none out."
    )
    check: StrictBool = Field(True, description="Whether every image file is decoded before the first epoch.")
    workers: StrictInt | None = Field(
        None, ge=0, le=256, description="Processes that decode. Default: as many as it gains from."
    )


class Colour(Group):
    """Random changes of colour, each by at most its share, as torchvision's ColorJitter takes them."""

    brightness: Annotated[StrictFloat, Field(ge=0)] = 0
    contrast: Annotated[StrictFloat, Field(ge=0)] = 0
    saturation: Annotated[StrictFloat, Field(ge=0)] = 0
    hue: Annotated[StrictFloat, Field(ge=0, le=0.5)] = 0


class Augment(Group):
    """Chance that the images are trained with, on top of the recipe; held-out ones are left alone."""

    resized_crop: tuple[Probability, Probability] | None = Field(
        None, description="[least, largest] share of the area that a random crop shows, instead of resize and crop."
    )
    flip: Probability = Field(0, description="Chance of being mirrored.")
    vertical_flip: Probability = Field(0, description="Chance of standing on its head.")
    rotate: Annotated[StrictFloat, Field(ge=0, le=180)] = Field(0, description="Degrees, either way.")
    shift: Annotated[StrictInt, Field(ge=0, le=16384)] = Field(
        0, description="Pixels of the network's input, in each direction."
    )
    colour: Colour = Field(default_factory=Colour)
    erase: Probability = Field(0, description="Chance of losing a rectangle.")

    @model_validator(mode="after")
    def _least_first(self) -> Augment:
        if self.resized_crop and self.resized_crop[0] > self.resized_crop[1]:
            raise ValueError("resized_crop: the least share comes first")
        return self


class Optimizer(Group):
    """How the weights follow the gradients."""

    name: Literal["adam", "adamw", "sgd"] = "adam"
    weight_decay: Annotated[StrictFloat, Field(ge=0)] = 0
    momentum: Probability = Field(0.9, description="Of sgd.")


class Schedule(Group):
    """The learning rate over the run, as a share of `lr`."""

    name: Literal["constant", "cosine", "onecycle", "step"] = "constant"
    warmup_epochs: Annotated[StrictFloat, Field(ge=0)] = Field(
        0, description="Linearly from nothing. Not with onecycle."
    )
    step_epochs: Annotated[StrictInt, Field(ge=1)] = Field(30, description="Of step: epochs between falls.")
    gamma: Annotated[StrictFloat, Field(gt=0, le=1)] = Field(0.1, description="Of step: what is left after each fall.")


class Unfreeze(Group):
    """The rest of the network begins to learn, too."""

    epoch: Annotated[StrictInt, Field(ge=2)]
    lr: Positive


class SampleCounts(Group):
    """Images to write beside the weights as PNG, in a folder a class: `images:` and `calibration:` of a manifest."""

    heldout: Annotated[StrictInt, Field(ge=0)] = 0
    calibration: Annotated[StrictInt, Field(ge=0)] = Field(0, description="Of those that are trained with.")


class TrainingSpec(Group):
    """A whole run. Paths are relative to the file."""

    network: Text = Field("", description="A name from `build-repo networks`, or path/file.py:callable.")
    arguments: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments for its constructor.")
    weights: UserText = Field(
        "random", description="Where training starts: random, torchvision's names (DEFAULT), a file, or included."
    )
    learn: Annotated[tuple[Text, ...], Field(min_length=1)] | Literal["all", "head"] = Field(
        "all", description="What learns: all, the last layer, or parts by their names, such as [classifier]."
    )
    unfreeze: Unfreeze | None = None
    data: Annotated[Data, _named("set")] = Field(default_factory=lambda: Data.model_validate({}))
    preprocess: RecipeOverrides = Field(
        default_factory=lambda: RecipeOverrides.model_validate({}),
        description="Changes to the recipe of the network or of its weights.",
    )
    labels: Labels | None = Field(None, description="Names of the classes, in their order.")
    augment: Augment = Field(default_factory=Augment)
    epochs: Annotated[StrictInt, Field(ge=1, le=100_000)] = 5
    batch_size: Annotated[StrictInt, Field(ge=1, le=1_000_000)] = Field(128, description="Of all processes together.")
    lr: Positive = 0.001
    optimizer: Annotated[Optimizer, _named("name")] = Field(default_factory=Optimizer)
    schedule: Annotated[Schedule, _named("name")] = Field(default_factory=Schedule)
    clip: Positive | None = Field(None, description="Largest norm of the gradients together.")
    label_smoothing: Annotated[StrictFloat, Field(ge=0, lt=1)] = 0
    class_weights: Literal["balanced"] | tuple[Positive, ...] | None = Field(
        None, description="How much each class counts; balanced: the rarer, the more."
    )
    best: Literal["accuracy", "loss"] = Field("accuracy", description="Of the held-out images: which weights to keep.")
    patience: Annotated[StrictInt, Field(ge=1)] | None = Field(
        None, description="Epochs without a better result after which the run ends."
    )
    seed: Annotated[StrictInt, Field(ge=0, lt=2**32)] = 0
    deterministic: StrictBool = Field(
        False, description="Only operations that always give the same bits; slower on a GPU."
    )
    device: Literal["auto", "cpu", "gpu"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="Of the arithmetic; auto: mixed where the device gains. Weights stay fp32."
    )
    channels_last: StrictBool = Field(
        True, description="Layout in memory: channels behind rows and columns, or before."
    )
    checkpoint_minutes: Positive = Field(10, description="Between checkpoints within an epoch; each ends with one.")
    samples: SampleCounts = Field(default_factory=SampleCounts)
    out: UserPath | None = Field(None, description="Folder of the run. Default: runs/NAME of the file or network.")

    @model_validator(mode="after")
    def _sensible(self) -> TrainingSpec:
        if self.unfreeze and self.learn == "all":
            raise ValueError("unfreeze: everything learns from the start; say what with `learn:`, such as head")
        if self.schedule.name == "onecycle" and self.schedule.warmup_epochs:
            raise ValueError("onecycle warms up by itself; leave warmup_epochs out")
        if self.schedule.warmup_epochs > self.epochs:
            raise ValueError(f"warmup_epochs is longer than the {self.epochs} epochs")
        return self


@dataclass(frozen=True)
class Run:
    """A configuration, and where it stands."""

    spec: TrainingSpec
    base: Path
    """Folder that its paths are relative to."""
    out: Path
    document: documents.Document[TrainingSpec] | None = None

    def error(self, message: str, *keys: str | int) -> ManifestError:
        if self.document:
            return self.document.error(message, *keys)
        return ManifestError(f"{'.'.join(map(str, keys)) or 'the run'}: {message}")

    def settings(self) -> dict[str, Any]:
        """What the result depends on, by dotted key. Not `epochs` with a constant rate: such a run can be prolonged."""
        said = self.spec.model_dump(mode="json", exclude={"out", "samples", "checkpoint_minutes", "device"})
        said["data"] = {key: said["data"][key] for key in ("set", "validation")}
        if self.spec.schedule.name == "constant":
            del said["epochs"]
        return dict(_flat(said))


def _flat(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def load_run(path: Path | None, changes: Mapping[str, Any]) -> Run:
    """The file's configuration with the command line's `changes`, by dotted key; its paths are absolute.

    Raises ManifestError.
    """
    document = documents.load(path, TrainingSpec, "name a configuration", EXPECTED) if path else None
    base = path.parent if path else Path()
    spec = _changed(document.parsed if document else TrainingSpec(), changes)
    if not spec.network:
        where = f"{path}:1: " if path else ""
        raise ManifestError(f"{where}network: is needed, such as `network: alexnet_gray` or --network alexnet_gray")
    if is_callable_name(spec.network):
        _require_recipe(spec, document)
    name = path.stem if path else spec.network.rpartition(":")[2]
    run = Run(spec, base, base / (spec.out or Path("runs", name)).expanduser(), document)
    _require_text(run)
    return run


def _require_text(run: Run) -> None:
    """Raise ManifestError for places that a card cannot name, and that not all of a run's files can be written to."""
    own = [("network", run.base.absolute())] if is_callable_name(run.spec.network) else []
    for key, place in (*own, ("out", run.out.absolute())):
        if not is_text(str(place)):
            raise run.error(f"the path {str(place)!r} is no UTF-8; rename its folders, or name another", key)


def _require_recipe(spec: TrainingSpec, document: documents.Document[TrainingSpec] | None) -> None:
    """Raise ManifestError unless `preprocess` is a whole recipe: one's own network brings none."""
    run = Run(spec, Path(), Path(), document)
    if not spec.preprocess.model_fields_set:
        raise run.error(
            "preprocess: is needed, since nothing else tells what images your network takes, such as "
            "{channels: 3, resize: 256, crop: 224}"
        )
    try:
        resolved(None, spec.preprocess)
    except ValueError as error:
        raise run.error(str(error), "preprocess") from None


EXPECTED = "a mapping with `network:` and `data:`; see the example in docs/train.md"


def _changed(spec: TrainingSpec, changes: Mapping[str, Any]) -> TrainingSpec:
    said = spec.model_dump(exclude_unset=True)
    for key, value in changes.items():
        group, _, last = key.rpartition(".")
        into = said.setdefault(group, {}) if group else said
        if not isinstance(into, dict):
            raise ManifestError(f"the command line asks for something impossible: {group}: has no keys, such as {last}")
        into[last] = value
    try:
        return TrainingSpec.model_validate(said)
    except ValidationError as error:
        message = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ManifestError(f"the command line asks for something impossible: {message}") from None
