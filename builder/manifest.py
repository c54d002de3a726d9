"""models.yaml <-> Manifest: what to build, with every mistake named by file, line and key."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, field_validator

from builder import documents, labels
from builder.errors import ManifestError
from builder.recipe import RecipeOverrides
from builder.settings import ImageSet, Labels, PlanSettings, Text, Tolerance, UserText
from builder.types import WeightsSource
from builder.yamltree import Node

# Triton takes the directory's name as the model's; these survive paths, URLs and shells everywhere.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
EXPECTED = "a mapping `models: {name: spec}`; see the example in README.md"
# Of weights: torchvision's names are words, or ResNet50_Weights.DEFAULT. Frameworks write files of many suffixes.
FILE_PATTERN = r"/|^(?![A-Za-z0-9]+(_[A-Za-z0-9]+)*_Weights\.).*\."


class ModelSpec(BaseModel):
    """One entry of `models:`. Every key has a default; `alexnet:` alone is a complete entry."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    network: Text = Field(
        "", description="A name from `build-repo networks`, or package.module:callable, or path/file.py:callable."
    )
    arguments: dict[str, Any] = Field(
        default_factory=dict, description="Keyword arguments for the network's constructor."
    )
    weights: UserText | None = Field(
        None,
        description="A torchvision weights name (DEFAULT, IMAGENET1K_V1), a file that holds a state dict "
        "(.pt, .pth, .ckpt, .bin, .safetensors), random, or, for your own callable, included: it loads them itself. A "
        "file that `build-repo train` wrote brings network, recipe and labels along.",
    )
    seed: StrictInt = Field(0, ge=0, lt=2**63, description="Seed of random weights.")
    activation: Literal["softmax", "none"] = Field(
        "softmax", description="softmax: the network gives logits. none: it already gives probabilities."
    )
    format: str = Field("torchscript", description="How the network is shipped.")
    precision: str = Field("fp32", description="Arithmetic of the shipped network.")
    device: Literal["cpu", "gpu"] = Field("cpu", description="Where the server runs the network.")
    max_batch_size: StrictInt = Field(8, ge=1, le=1024, description="Largest batch the server forms.")
    instances: StrictInt = Field(1, ge=1, le=64, description="Copies of the network, on each GPU or on the CPU.")
    threads: StrictInt | None = Field(
        None, ge=1, le=1024, description="CPU threads of each instance. Default: granted cores / instances."
    )
    preprocess: RecipeOverrides = Field(
        default_factory=lambda: RecipeOverrides.model_validate({}),
        description="Changes to the recipe that the weights bring along.",
    )
    labels: UserText | Labels | None = Field(
        None,
        description="A set's name (imagenet), a text file with one label a line, or a list. A set goes before a file "
        "of its name, which is written ./imagenet. Default: those of the weights.",
    )
    images: ImageSet | None = Field(
        None,
        description="Images to verify with, labelled if they lie in folders named by class. Default: photos that "
        "come with this tool.",
    )
    calibration: ImageSet | None = Field(
        None, description="Images that int8 is calibrated with: like those to come, but not those of `images`."
    )
    tolerance: Tolerance = Field(
        default_factory=lambda: Tolerance.model_validate({}),
        description="Changes to what the precision may cost by default.",
    )
    tensorrt: PlanSettings = Field(
        default_factory=lambda: PlanSettings.model_validate({}), description="Of `format: tensorrt` alone."
    )

    @property
    def labels_file(self) -> Path | None:
        """The path of the labels, if they are neither a list nor a named set."""
        return Path(self.labels) if isinstance(self.labels, str) and self.labels not in labels.SETS else None

    @field_validator("images", "calibration", mode="before", json_schema_input_type=Text | ImageSet | None)
    @classmethod
    def _images_as_set(cls, value: Any) -> Any:
        return {"data": value} if isinstance(value, str) else value


class ManifestFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: dict[Annotated[str, Field(pattern=NAME_PATTERN)], ModelSpec | None]


@dataclass(frozen=True)
class Manifest:
    """The entries of a manifest, and where in the file each was written."""

    path: Path
    models: dict[str, ModelSpec]
    _tree: Node | None = field(repr=False, default=None)

    def error(self, message: str, *keys: str | int) -> ManifestError:
        """A ManifestError that names the file, line and key."""
        return documents.error_at(self.path, self._tree, message, *keys)

    def says(self, name: str, key: str) -> bool:
        """Whether the entry itself gives the key."""
        if self._tree is None:
            return key in self.models[name].model_fields_set
        return documents.has_key(self._tree, "models", name, key)

    def weights_source(self, name: str, override: str | None = None) -> WeightsSource | None:
        """Where the entry's weights come from; None if nothing says so. Files are not read yet."""
        spec = self.models[name]
        text = override or spec.weights
        return parse_weights(text, self.path.parent, spec.seed) if text else None

    def resolve(self, path: Path) -> Path:
        """A path written in the file, which is relative to the file."""
        return self.path.parent / path.expanduser()


def parse_weights(text: str, base: Path, seed: int = 0) -> WeightsSource:
    if text in ("random", "included"):
        return WeightsSource(text, text, seed=seed)
    if re.search(FILE_PATTERN, text):
        return WeightsSource("file", text, base / Path(text).expanduser())
    return WeightsSource("named", text)


def load_manifest(path: Path) -> Manifest:
    """Read and check a manifest file. Raises ManifestError."""
    document = documents.load(path, ManifestFile, "name a manifest with -m FILE", EXPECTED)
    parsed = document.parsed
    if not parsed.models:
        raise document.error("there are no models; add one, such as `alexnet:`", "models")
    specs = {name: spec or ModelSpec() for name, spec in parsed.models.items()}
    named = {n: s if s.network else s.model_copy(update={"network": n}) for n, s in specs.items()}
    return Manifest(path, named, document.tree)
