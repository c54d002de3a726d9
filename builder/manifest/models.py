"""models.yaml <-> Manifest: what to build, with every mistake named by file, line and key."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Union

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, create_model, field_validator

from builder.errors import ManifestError
from builder.exporters import EXPORTERS
from builder.tasks import TASKS
from builder.tasks.spec import ModelSpec
from builder.types import WeightsSource
from builder.util import documents
from builder.util.yamltree import Node

# Triton takes the directory's name as the model's; these survive paths, URLs and shells everywhere.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
EXPECTED = "a mapping `models: {name: spec}`; see the example in README.md"
# Of weights: torchvision's names are words, or ResNet50_Weights.DEFAULT. Frameworks write files of many suffixes.
FILE_PATTERN = r"/|^(?![A-Za-z0-9]+(_[A-Za-z0-9]+)*_Weights\.).*\."
DEFAULT_TASK = "classification"
UNKNOWN_TASK = "unknown task"


class UnknownTask(BaseModel):
    """An entry whose task is none of ours; its other keys cannot be judged."""

    model_config = ConfigDict(extra="allow", frozen=True)

    task: Any

    @field_validator("task")
    @classmethod
    def _refused(cls, value: Any) -> Any:
        del value  # the message shows it
        raise ValueError(f"there is no such task; choose {', '.join(TASKS)}")


def spec_of(task: str) -> type[ModelSpec]:
    """The keys of a task's entries, with those of every format under its name."""
    return _specs(tuple(TASKS), tuple(EXPORTERS))[task]


@functools.cache
def _specs(tasks: tuple[str, ...], formats: tuple[str, ...]) -> dict[str, type[ModelSpec]]:
    options = {name: EXPORTERS[name].OPTIONS for name in formats}
    keys: dict[str, Any] = {name: _options(name, keys) for name, keys in options.items() if keys}
    return {name: _with_keys(name, TASKS[name].SPEC, keys) for name in tasks}


def _with_keys(task: str, base: type[ModelSpec], keys: dict[str, Any]) -> type[ModelSpec]:
    """Called after the task, which is told from all others by its name, as the classes need not be."""
    name = "".join(part.capitalize() for part in re.split(r"\W|_", task))
    made: type[ModelSpec] = create_model(name, __base__=base, __doc__=base.__doc__, __module__=__name__, **keys)
    return made


def __getattr__(name: str) -> Any:
    """The classes that are made here, by their names: entries are pickled for the processes that build them."""
    for spec in () if name.startswith("_") else _specs(tuple(TASKS), tuple(EXPORTERS)).values():
        if spec.__name__ == name:
            return spec
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _options(name: str, keys: type[BaseModel]) -> Any:
    return keys, Field(
        default_factory=functools.partial(keys.model_validate, {}), description=f"Of `format: {name}` alone."
    )


def manifest_file() -> type[BaseModel]:
    """The whole file, of the tasks and formats that there are now."""
    return _file(tuple(TASKS), tuple(EXPORTERS))


@functools.cache
def _file(tasks: tuple[str, ...], formats: tuple[str, ...]) -> type[BaseModel]:
    tagged = [Annotated[spec, Tag(name)] for name, spec in _specs(tasks, formats).items()]
    kinds: Any = Union[tuple(tagged) + (Annotated[UnknownTask, Tag(UNKNOWN_TASK)],)]  # noqa: UP007, RUF005  made here
    entry: Any = Annotated[kinds, Discriminator(_task_of)]
    name: Any = Annotated[str, Field(pattern=NAME_PATTERN)]
    config = ConfigDict(extra="forbid", frozen=True)
    models: Any = (dict[name, entry | None], ...)
    return create_model("ManifestFile", __config__=config, __doc__="The whole file.", models=models)


def _task_of(entry: Any) -> str:
    task = entry.get("task", DEFAULT_TASK) if isinstance(entry, dict) else getattr(entry, "task", DEFAULT_TASK)
    return task if isinstance(task, str) and task in TASKS else UNKNOWN_TASK


@dataclass(frozen=True)
class Manifest:
    """The entries of a manifest, and where in the file each was written."""

    path: Path
    models: dict[str, Any]
    """By name, each of its task's SPEC."""
    _tree: Node | None = field(repr=False, default=None)

    def error(self, message: str, *keys: str | int) -> ManifestError:
        """A ManifestError that names the file, line and key."""
        return documents.error_at(self.path, self._tree, message, *keys)

    @property
    def is_read(self) -> bool:
        """Whether a file says it, whose lines can be told."""
        return self._tree is not None

    def says(self, name: str, key: str) -> bool:
        """Whether the entry itself gives the key."""
        if self._tree is None:
            return key in self.models[name].model_fields_set
        return documents.has_key(self._tree, "models", name, key)

    def weights_source(self, name: str, override: str | None = None) -> WeightsSource | None:
        """Where the entry's weights come from; None if nothing says so. Files are not read yet."""
        spec: ModelSpec = self.models[name]
        text = override or spec.weights
        return parse_weights(text, self.path.parent, spec.seed) if text else None


def parse_weights(text: str, base: Path, seed: int = 0) -> WeightsSource:
    if text in ("random", "included"):
        return WeightsSource(text, text, seed=seed)
    if re.search(FILE_PATTERN, text):
        return WeightsSource("file", text, base / Path(text).expanduser())
    return WeightsSource("named", text)


def load_manifest(path: Path) -> Manifest:
    """Read and check a manifest file. Raises ManifestError."""
    document = documents.load(path, manifest_file(), "name a manifest with -m FILE", EXPECTED)
    models: dict[str, ModelSpec | None] = document.parsed.models  # type: ignore[attr-defined]
    if not models:
        raise document.error("there are no models; add one, such as `alexnet:`", "models")
    specs = {name: spec or spec_of(DEFAULT_TASK)() for name, spec in models.items()}
    named = {n: s if s.network or s.artifact else s.model_copy(update={"network": n}) for n, s in specs.items()}
    return Manifest(path, named, document.tree)
