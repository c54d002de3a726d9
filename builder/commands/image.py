"""build-repo image"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from builder.commands.options import Json, Repository
from builder.commands.output import print_json, progress, say

if TYPE_CHECKING:
    from builder.containers.order import Order


def image(
    repository: Repository = Path("model_repository"),
    kind: Annotated[
        str | None, typer.Option(help="slim or nvidia. Default: the smallest that can serve the repository.")
    ] = None,
    tag: Annotated[
        str, typer.Option("--tag", "-t", help="Name of the image.", metavar="NAME:TAG")
    ] = "triton-repository:dev",
    base: Annotated[
        str | None,
        typer.Option(help="Image to start from. Default: python:X.Y-slim; NVIDIA's that fits.", metavar="IMAGE"),
    ] = None,
    bake: Annotated[bool, typer.Option("--bake", help="Put the repository into the image.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write Dockerfile and context there, and build nothing.", metavar="DIR"),
    ] = None,
    python: Annotated[
        str | None, typer.Option(help="with --output: the base image's Python, such as 3.12.", metavar="X.Y")
    ] = None,
    as_json: Json = False,
) -> None:
    """Build an image that serves the repository."""
    from builder.containers import make
    from builder.errors import ImageError
    from builder.repository.served import read_intact
    from builder.triton import advisories

    if python and output is None:
        raise ImageError("--python is for --output; where the engine builds, the base image is asked")
    wanted = make.order(read_intact(repository), kind, base, bake, python)
    judged = advisories.of_image(wanted.triton, wanted.base, "--kind nvidia")
    if judged.line:
        say(judged.line)
    known = {"kind": wanted.kind, "advisories": judged.names}
    if output is not None:
        _write(wanted, output, known, as_json)
    else:
        _build(wanted, tag, known, as_json)


def _write(wanted: Order, output: Path, known: dict[str, Any], as_json: bool) -> None:
    """Dockerfile and context."""
    from builder.containers import make

    with progress(1) as report:
        make.write_context(wanted, output, lambda step: report(f"context: {step}"))
    print_json({"context": str(output)} | known) if as_json else print(output)


def _build(wanted: Order, tag: str, known: dict[str, Any], as_json: bool) -> None:
    """The image, by the engine."""
    from builder.containers import make

    with progress(1) as report:
        built = make.build(wanted, tag, lambda step: report(f"{tag}: {step}"))
    if as_json:
        print_json({"image": built.reference, "id": built.id, "bytes": built.bytes} | known)
    else:
        say(f"{wanted.kind} image of {built.bytes / 1e6:.0f} MB, from {wanted.base}")
        print(built.reference)
