"""Images by this machine's Docker engine: pulled, inspected, built."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from builder.containers import context, order
from builder.containers.order import Order
from builder.errors import ImageError
from builder.triton import releases
from builder.types import Report

TOLD_LINES = 8
ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class BuiltImage:
    reference: str
    id: str
    bytes: int


def find(client: Any, reference: str) -> Any | None:
    """The image on this machine, or None. Raises ImageError."""
    from docker.errors import APIError, ImageNotFound

    try:
        return client.images.get(reference)
    except ImageNotFound:
        return None
    except (APIError, OSError) as error:
        raise ImageError(f"the engine cannot look {reference} up: {_explained(error)}") from None


def require(client: Any, reference: str, report: Report = lambda _: None) -> Any:
    """The image, pulled if it is not on this machine. Raises ImageError."""
    return find(client, reference) or _pull(client, reference, report)


def _pull(client: Any, reference: str, report: Report) -> Any:
    from docker.errors import APIError

    layers: dict[str, tuple[int, int]] = {}
    try:
        for line in client.api.pull(*_name_and_tag(reference), stream=True, decode=True):
            if "error" in line:
                raise ImageError(_pull_refusal(reference, str(line["error"])))
            details = line.get("progressDetail") or {}
            if line.get("status") == "Downloading" and "total" in details:
                layers[line["id"]] = (details["current"], details["total"])
            elif line.get("status") == "Download complete" and line.get("id") in layers:
                layers[line["id"]] = (layers[line["id"]][1],) * 2
            report(f"pulling {reference}{_share(layers)}")
    except (APIError, OSError) as error:
        raise ImageError(_pull_refusal(reference, _explained(error))) from None
    found = find(client, reference)
    if found is None:
        raise ImageError(_pull_refusal(reference, "the engine does not have it afterwards"))
    return found


def _share(layers: Mapping[str, tuple[int, int]]) -> str:
    """How much of an image is there: its layers are told of as they begin, so that the sum grows at first."""
    done, total = (sum(column) for column in zip(*layers.values(), strict=True)) if layers else (0, 0)
    return f": {done / 1e6:.0f} of {total / 1e6:.0f} MB" if total else ""


def _name_and_tag(reference: str) -> tuple[str, str | None]:
    if "@" in reference:
        return reference, None
    name, colon, tag = reference.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (reference, "latest")


def _pull_refusal(reference: str, reason: str) -> str:
    hint = f"check the name, and run: docker login && docker pull {reference}"
    if releases.of_reference(reference) and "/" not in reference:
        hint = (
            f"NVIDIA's images have a registry's name in front, which {releases.REGISTRY_VARIABLE} can hold, such as "
            f"{releases.REGISTRY_VARIABLE}=HOST/PATH; or have it pulled on this machine before"
        )
    return f"the image {reference} is not on this machine and cannot be pulled: {reason}; {hint}"


def python_of(client: Any, reference: str) -> str:
    """The version of an image's python3, such as 3.12. Raises ImageError."""
    from docker.errors import APIError, ContainerError

    command = ["-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    try:
        said = client.containers.run(reference, command, entrypoint=["python3"], remove=True, network_disabled=True)
    except (APIError, ContainerError, OSError) as error:
        raise ImageError(f"{reference} has no python3 to start from: {_explained(error)}") from None
    found = str(said.decode(errors="replace").strip())
    if not order.VERSION.fullmatch(found):
        raise ImageError(f"{reference} has a python3 that tells no version of Python 3: {found[:40]!r}")
    return found


def build(client: Any, order: Order, tag: str, report: Report = lambda _: None) -> BuiltImage:
    """Build the image and name it. Raises ImageError; then nothing is named."""
    report(f"looking for {order.base}")
    base = require(client, order.base, report)
    digests = [digest.rpartition("@")[2] for digest in base.attrs.get("RepoDigests") or ()]
    entrypoint = tuple(base.attrs["Config"].get("Entrypoint") or ())
    order = replace(order, entrypoint=entrypoint, base_digest=digests[0] if digests else base.id)
    with tempfile.TemporaryDirectory(prefix="build-repo-image-") as name:
        folder = Path(name) / "context"
        folder.mkdir()
        context.write(order, folder, report, copy=context.linked)
        report("sending the build context")
        with tempfile.TemporaryFile(dir=name) as packed:
            context.pack(folder, order, packed)
            packed.seek(0)
            _build(client, packed, tag, report)
    built = client.images.get(tag)
    return BuiltImage(tag, built.id, built.attrs["Size"])


def _build(client: Any, packed: Any, tag: str, report: Report) -> None:
    from docker.errors import APIError

    said: list[str] = []
    try:
        stream = client.api.build(
            fileobj=packed, custom_context=True, tag=tag, rm=True, forcerm=True, decode=True, network_mode="none"
        )
        for line in stream:
            if "error" in line:
                raise ImageError(f"{tag} cannot be built: {_last(said)}\n{line['error']}")
            text = ANSI.sub("", str(line.get("stream", ""))).strip()
            if text:
                said.append(text)
                report(text.splitlines()[0][:100])
    except (APIError, OSError) as error:
        raise ImageError(f"{tag} cannot be built: {_explained(error)}") from None


def _last(said: list[str]) -> str:
    return "\n".join("\n".join(said).splitlines()[-TOLD_LINES:])


def _explained(error: Exception) -> str:
    return str(getattr(error, "explanation", None) or error)
