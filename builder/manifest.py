"""models.yaml <-> Manifest: what to build, with every mistake named by file, line and key."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from builder.errors import ManifestError
from builder.recipe import RecipeOverrides
from builder.settings import ImageSet, PlanSettings, Tolerance
from builder.types import WeightsSource

# Triton takes the directory's name as the model's; these survive paths, URLs and shells everywhere.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
WEIGHTS_SUFFIXES = (".pt", ".pth", ".safetensors")


class ModelSpec(BaseModel):
    """One entry of `models:`. Every key has a default; `alexnet:` alone is a complete entry."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    network: str = Field(
        "", description="A name from `build-repo networks`, or package.module:callable, or path/file.py:callable."
    )
    arguments: dict[str, Any] = Field(
        default_factory=dict, description="Keyword arguments for the network's constructor."
    )
    weights: str | None = Field(
        None,
        description="A torchvision weights name (DEFAULT, IMAGENET1K_V1), a state-dict file (.pt, .pth, "
        ".safetensors), random, or, for your own callable, included: it loads them itself.",
    )
    seed: int = Field(0, ge=0, description="Seed of random weights.")
    activation: Literal["softmax", "none"] = Field(
        "softmax", description="softmax: the network gives logits. none: it already gives probabilities."
    )
    format: str = Field("torchscript", description="How the network is shipped.")
    precision: str = Field("fp32", description="Arithmetic of the shipped network.")
    device: Literal["cpu", "gpu"] = Field("cpu", description="Where the server runs the network.")
    max_batch_size: int = Field(8, ge=1, le=1024, description="Largest batch the server forms.")
    instances: int = Field(1, ge=1, le=64, description="Copies of the network, on each GPU or on the CPU.")
    threads: int | None = Field(
        None, ge=1, le=1024, description="CPU threads of each instance. Default: granted cores / instances."
    )
    preprocess: RecipeOverrides = Field(
        default_factory=lambda: RecipeOverrides.model_validate({}),
        description="Changes to the recipe that the weights bring along.",
    )
    labels: Path | tuple[str, ...] | None = Field(
        None, description="A text file with one label a line, or a list. Default: those of the weights."
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

    @field_validator("images", "calibration", mode="before")
    @classmethod
    def _images_as_set(cls, value: Any) -> Any:
        return {"data": value} if isinstance(value, str) else value

    @field_validator("labels", mode="before")
    @classmethod
    def _labels_as_text(cls, value: Any) -> Any:
        # A YAML list of digits is a list of labels too.
        return tuple(str(item) for item in value) if isinstance(value, list | tuple) else value


GROUPS: dict[str, type[BaseModel]] = {
    "preprocess": RecipeOverrides,
    "images": ImageSet,
    "calibration": ImageSet,
    "tolerance": Tolerance,
    "tensorrt": PlanSettings,
}
"""What the keys of an entry that hold keys themselves are checked with."""


class ManifestFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: dict[Annotated[str, Field(pattern=NAME_PATTERN)], ModelSpec | None]


@dataclass(frozen=True)
class Manifest:
    """The entries of a manifest, and where in the file each was written."""

    path: Path
    models: dict[str, ModelSpec]
    _tree: Any = field(repr=False, default=None)

    def error(self, message: str, *keys: str | int) -> ManifestError:
        """A ManifestError that names the file, line and key."""
        return ManifestError(f"{_place(self.path, self._tree, keys)}: {message}")

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
    if text.endswith(WEIGHTS_SUFFIXES) or "/" in text:
        return WeightsSource("file", text, base / Path(text).expanduser())
    return WeightsSource("named", text)


def load_manifest(path: Path) -> Manifest:
    """Read and check a manifest file. Raises ManifestError."""
    tree = _read_yaml(path)
    if not isinstance(tree, CommentedMap):
        raise ManifestError(f"{path}:1: expected a mapping `models: {{name: spec}}`; see the README's example")
    try:
        parsed = ManifestFile.model_validate(_plain(tree))
    except ValidationError as error:
        raise ManifestError("\n".join(_explain(path, tree, item) for item in error.errors())) from None
    if not parsed.models:
        raise ManifestError(f"{_place(path, tree, ('models',))}: there are no models; add one, such as `alexnet:`")
    specs = {name: spec or ModelSpec() for name, spec in parsed.models.items()}
    named = {n: s if s.network else s.model_copy(update={"network": n}) for n, s in specs.items()}
    return Manifest(path, named, tree)


def _read_yaml(path: Path) -> Any:
    try:
        return YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ManifestError(f"{path} does not exist; name a manifest with -m FILE") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path} cannot be read: {error}") from None
    except DuplicateKeyError as error:
        key = re.search(r'key "([^"]*)"', str(error.problem))
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        name = f"{key[1]}: " if key else ""
        raise ManifestError(f"{path}:{line}: {name}this key was already given above; keep one") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ManifestError(f"{path}:{mark.line + 1 if mark else 1}: not valid YAML: {error.problem}") from None
    except YAMLError as error:
        raise ManifestError(f"{path}: not valid YAML: {error}") from None


def _plain(node: Any) -> Any:
    """ruamel's commented containers and scalars as Python's own, which pydantic checks strictly."""
    if isinstance(node, CommentedMap):
        return {key: _plain(value) for key, value in node.items()}
    if isinstance(node, CommentedSeq):
        return [_plain(value) for value in node]
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node


def _explain(path: Path, tree: Any, item: Any) -> str:
    keys = [key for key in item["loc"] if _is_written(tree, item["loc"], key)]
    return f"{_place(path, tree, keys)}: {_message(item, keys)}"


def _message(item: Any, keys: list[Any]) -> str:
    if item["type"] == "extra_forbidden":
        return "unknown key" + _suggestion(str(item["loc"][-1]), _known_keys(keys))
    if item["type"] == "missing":
        return f"the key {item['loc'][-1]!r} is missing"
    if item["type"] == "string_pattern_mismatch":
        return "a model's name may have letters, digits, '_', '-' and '.', no others"
    return f"{item['msg']}{_given(item)}"


def _given(item: Any) -> str:
    scalar = isinstance(item["input"], str | int | float | bool)
    return f" (it says {item['input']!r})" if scalar else ""


def _is_written(tree: Any, location: tuple[Any, ...], key: Any) -> bool:
    """Whether a part of pydantic's location is a key of the file, not the name of a type it tried."""
    node = tree
    for part in location[: location.index(key) + 1]:
        if (isinstance(node, CommentedMap) and part in node) or (
            isinstance(node, CommentedSeq) and isinstance(part, int) and part < len(node)
        ):
            node, found = node[part], True
        else:
            found = False
    return found


def _known_keys(keys: list[Any]) -> list[str]:
    """The keys that may stand where the last of `keys` does."""
    if len(keys) == 1:
        return list(ManifestFile.model_fields)
    return list(ModelSpec.model_fields if len(keys) == 3 else GROUPS.get(keys[2], RecipeOverrides).model_fields)


def _suggestion(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known keys: {', '.join(known)}"


def _place(path: Path, tree: Any, keys: tuple[Any, ...] | list[Any]) -> str:
    """`file:line: dotted.key` of the deepest of `keys` that the file holds."""
    node, line = tree, 0
    for key in keys:
        if isinstance(node, CommentedMap) and key in node:
            line, node = node.lc.key(key)[0], node[key]
        elif isinstance(node, CommentedSeq) and isinstance(key, int) and key < len(node):
            line, node = node.lc.item(key)[0], node[key]
    dotted = ".".join(str(key) for key in keys)
    return f"{path}:{line + 1}: {dotted}" if dotted else f"{path}:{line + 1}"


def json_schema(choices: dict[str, list[str]]) -> dict[str, Any]:
    """The manifest's JSON Schema; `choices` adds the registered names of `network`, `format` ..."""
    schema = ManifestFile.model_json_schema()
    properties = schema["$defs"]["ModelSpec"]["properties"]
    for key, names in choices.items():
        names_schema: dict[str, Any] = {"enum": names}
        if key == "network":  # or the user's own callable
            names_schema = {"anyOf": [{"enum": names}, {"pattern": ":"}]}
        properties[key] |= names_schema
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "models.yaml"} | schema
