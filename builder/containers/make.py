"""What a user asks of an image, checked; and its two outcomes: an image, or the context to build one from."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from builder import containers
from builder.containers import building, context, slim
from builder.containers.building import BuiltImage
from builder.containers.order import VERSION, Order
from builder.errors import ImageError
from builder.machine import docker
from builder.repository.served import Served
from builder.triton import releases
from builder.types import Report


def order(models: Sequence[Served], kind: str | None, base: str | None, bake: bool, python: str | None = None) -> Order:
    """Raises ImageError."""
    kind = kind or containers.default_kind(models)
    if kind not in containers.KINDS:
        raise ImageError(f"there is no kind {kind!r} of image; choose {', '.join(containers.KINDS)}")
    if reason := containers.KINDS[kind].refusal(models):
        raise ImageError(reason)
    if base and not releases.REFERENCE.fullmatch(base):
        raise ImageError(f"{base!r} is not an image's name; give it as REGISTRY/NAME:TAG")
    if python and not VERSION.fullmatch(python):
        raise ImageError(f"{python!r} is no Python's version; write it like 3.12")
    base = base or containers.KINDS[kind].base(models)
    known = releases.of_reference(base)
    return Order(models, kind, base, python or (known.python if known and kind == "nvidia" else slim.python()), bake)


def build(wanted: Order, tag: str, report: Report = lambda _: None) -> BuiltImage:
    """Raises EngineError, ImageError."""
    name = releases.REFERENCE.fullmatch(tag)
    if name is None or name["digest"] or name["name"] != name["name"].lower():
        raise ImageError(f"{tag!r} cannot be an image's name; write it like registry.example/triton:1, in lower case")
    with closing(docker.connect()) as client:
        report(f"looking for {wanted.base}")
        building.require(client, wanted.base, report)
        found = building.python_of(client, wanted.base)
        if wanted.kind == "slim" and found != wanted.python:
            raise ImageError(
                f"{wanted.base} has Python {found}, and the packages verified here are for {wanted.python}; give a "
                f"--base with that, such as {slim.base(wanted.models)}"
            )
        return building.build(client, replace(wanted, python=found), tag, report)


def write_context(wanted: Order, folder: Path, report: Report) -> None:
    """A new folder, or none. Raises ImageError."""
    if folder.exists():
        raise ImageError(f"{folder} exists; name a new folder, or move it away")
    try:
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.absolute().parent, prefix=".build-repo-") as name:
            staged = Path(name) / "context"
            staged.mkdir()
            context.write(wanted, staged, report)
            staged.rename(folder)
    except OSError as error:
        raise ImageError(f"{folder} cannot be written: {error.strerror}: {error.filename}") from None
