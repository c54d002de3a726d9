"""A build context: the Dockerfile, and everything that it copies, so that its build needs no network."""

from __future__ import annotations

import functools
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import jinja2

from builder import containers
from builder.containers.order import USER, Order, labels
from builder.errors import ImageError
from builder.repository import layout, lock
from builder.repository.layout import role_of
from builder.repository.served import retired
from builder.triton import model_config
from builder.triton.releases import HEALTH
from builder.types import Report
from builder.util.rendering import environment

TEMPLATES = Path(__file__).parent.parent / "templates" / "containers"
DOCKERFILE = "Dockerfile"
Copy = Callable[[Any, Any], object]
MODELS = "models"
# Until then a server that is not ready is starting, not ill: PyTorch from a cold disk, and the largest networks.
START_SECONDS = 300


def write(order: Order, folder: Path, report: Report = lambda _: None, *, copy: Copy = shutil.copyfile) -> None:
    """Fill an empty folder. Raises ImageError."""
    kind = containers.KINDS[order.kind]
    if reason := kind.refusal(order.models):
        raise ImageError(reason)
    report("downloading packages")
    try:
        values = kind.write(order, folder)
        if order.bake:
            report("copying the repository")
            copy_served(order.repository, folder / MODELS, copy)
        (folder / DOCKERFILE).write_text(render(order, values), encoding="utf-8")
    except OSError as error:
        raise ImageError(f"the build context cannot be written: {error}") from None


def render(order: Order, values: dict[str, Any]) -> str:
    """The Dockerfile."""
    return (
        _environment()
        .get_template(f"{order.kind}.Dockerfile.j2")
        .render(
            base=order.base,
            python=order.python,
            epoch=order.epoch,
            bake=order.bake,
            user=USER,
            labels=labels(order),
            health=HEALTH,
            start_period=START_SECONDS,
            **values,
        )
    )


def copy_served(repository: Path, target: Path, copy: Copy = shutil.copyfile) -> None:
    """Of each model its config, what warms it up, and the versions that are served; of foreign ones everything."""
    target.mkdir()
    former = retired(repository)
    for entry in sorted(repository.iterdir()):
        if entry.is_file():
            if entry.name == lock.FILENAME:
                copy(entry, target / entry.name)
        elif role_of(entry):
            if entry.name not in former:
                _copy_model(entry, target / entry.name, copy)
        elif (entry / layout.CONFIG).is_file():
            shutil.copytree(entry, target / entry.name, copy_function=copy)


def _copy_model(model: Path, target: Path, copy: Copy) -> None:
    target.mkdir()
    versions = {str(version) for version in model_config.read(model / layout.CONFIG).version_policy.specific.versions}
    for entry in sorted(model.iterdir()):
        if entry.is_file():
            copy(entry, target / entry.name)
        elif not entry.name.isdecimal() or entry.name in versions:
            shutil.copytree(entry, target / entry.name, copy_function=copy)


def linked(source: str | Path, target: str | Path) -> None:
    """A way to copy, for contexts that nobody gets to see: the same file; a copy where the filesystem is another."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def pack(folder: Path, order: Order, stream: IO[bytes]) -> None:
    """The context as a tar, in which nothing tells who made it when."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        member.mtime = order.epoch
        member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
        return member

    with tarfile.open(fileobj=stream, mode="w|") as tar:
        for path in sorted(folder.rglob("*")):
            tar.add(path, str(path.relative_to(folder)), recursive=False, filter=plain)


@functools.cache
def _environment() -> jinja2.Environment:
    return environment(TEMPLATES, {"json": json.dumps, "dockerfile": _quoted})


def _quoted(text: str) -> str:
    """One value of a LABEL."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("\n", " ")
    return f'"{escaped}"'
