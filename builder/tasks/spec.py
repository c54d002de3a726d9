"""The keys of an entry that every task has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from builder.data.sets import Text, UserText
from builder.networks import source_of
from builder.networks.huggingface.snapshot import files as snapshot_files
from builder.util.names import is_of_hub, split
from builder.util.usercode import is_callable_name

Keys = tuple[str | int, ...]


class ModelSpec(BaseModel):
    """One entry of `models:`; tasks add keys of their own, and formats theirs under their name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str = Field("classification", description="What the network is for.")
    network: Text = Field(
        "",
        description="A name from `build-repo networks`, or package.module:callable, or path/file.py:callable, or a "
        "snapshot of transformers: hf/ORG/NAME[@REVISION] of the hub, or hf:DIR.",
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
    artifact: UserText | None = Field(
        None,
        description="A file to serve as it is, in place of network and weights: .onnx, TorchScript (.pt), .pt2, "
        "OpenVINO IR (.xml) or a TensorRT plan (.plan).",
    )
    reference: UserText | None = Field(
        None,
        description="What the artifact is held to: a network as for `network:`, or another artifact. Default: itself.",
    )
    seed: StrictInt = Field(0, ge=0, lt=2**63, description="Seed of random weights.")
    format: str = Field("torchscript", description="How the network is shipped.")
    precision: str = Field("fp32", description="Arithmetic of the shipped network.")
    device: Literal["cpu", "gpu"] = Field("cpu", description="Where the server runs the network.")
    max_batch_size: StrictInt = Field(8, ge=1, le=1024, description="Largest batch the server forms.")
    instances: StrictInt = Field(1, ge=1, le=64, description="Copies of the network, on each GPU or on the CPU.")
    threads: StrictInt | None = Field(
        None, ge=1, le=1024, description="CPU threads of each instance. Default: granted cores / instances."
    )

    def files(self) -> dict[Keys, str]:
        """By key, the values that name files, folders or callables, as the manifest writes them. Tasks add theirs.

        The weights are not among them: the command line may name others.
        """
        named: dict[Keys, str] = {("artifact",): self.artifact} if self.artifact else {}
        networks = {("network",): self.network, ("reference",): self.reference or ""}
        return named | {keys: split(value)[1] for keys, value in networks.items() if names_file(value)}

    def with_files(self, values: Mapping[Keys, str]) -> Self:
        """The same with other files, by the keys of `files`."""
        changed: dict[str, Any] = {}
        for (first, *inner), value in values.items():
            key = str(first)
            before = changed.get(key, getattr(self, key))
            mark = split(before)[0] if isinstance(before, str) else ""
            changed[key] = f"{mark}{_with(before, inner, value)}" if mark else _with(before, inner, value)
        return self.model_copy(update=changed)

    def data_files(self, base: Path) -> Iterator[Path]:
        """What a build reads of `files`, but for the code of callables. Missing ones are told by the build itself."""
        for value in self.files().values():
            if not is_callable_name(value) or (base / Path(value).expanduser()).exists():
                yield from self.read_of(value, base)

    def read_of(self, value: str, base: Path) -> Iterator[Path]:
        """What is read of a file or folder: all that is in it, but of a snapshot what transformers takes."""
        path = base / Path(value).expanduser()
        marked = [split(name) for name in (self.network, self.reference or "")]
        if any(mark and value == named for mark, named in marked):
            yield from snapshot_files(path)
        else:
            yield from path.rglob("*") if path.is_dir() else [path]


def names_file(value: str) -> bool:
    """Whether what names a network, or a reference, names a callable, a file or a folder: networks of ours are words,
    and those of other packages and of the hub are known by how they begin.
    """
    if is_of_hub(value) or source_of(value):
        return False
    return is_callable_name(value) or "/" in value or "." in value or bool(split(value)[0])


def _with(value: Any, keys: Sequence[str | int], inner: str) -> Any:
    if not keys:
        return inner
    first, *others = keys
    if isinstance(value, BaseModel):
        name = str(first)
        return value.model_copy(update={name: _with(getattr(value, name), others, inner)})
    items = list(value)
    items[int(first)] = _with(items[int(first)], others, inner)
    return type(value)(items)
