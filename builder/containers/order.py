"""What is asked of an image, and the values that each kind's Dockerfile is rendered with."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from builder import __version__
from builder.repository.served import Served, recorded, requirements
from builder.triton import advisories, releases

FINGERPRINT = "build-repo.fingerprint"
LABEL = "build-repo.kind"
"""The label by which an image of ours is known: its kind."""
TRITON = "build-repo.triton"
"""The label with its server's version, where that is known."""
BASE_NAME = "org.opencontainers.image.base.name"
USER = 1000
VERSION = re.compile(r"3\.\d+", re.ASCII)
"""Of a Python."""
# Of what an image's models were built from, told in its labels.
TOLD = ("network", "weights", "weights_sha256", "format", "precision", "trained", "artifact_sha256", "built_at")


@dataclass(frozen=True)
class Order:
    models: Sequence[Served]
    kind: str
    base: str
    python: str
    """Of the base image, such as 3.12: what wheels are for."""
    bake: bool = False
    """Whether the repository goes into the image."""
    entrypoint: tuple[str, ...] | None = None
    """The base image's own; None if it could not be looked at."""
    base_digest: str = ""
    fingerprint: str = ""
    """Of what an image of this kind consists of beside the repository; empty where nobody asks."""

    @property
    def repository(self) -> Path:
        return self.models[0].repository

    @property
    def requirements(self) -> tuple[str, ...]:
        return requirements(self.models)

    @property
    def triton(self) -> str | None:
        """Its server's version; None for a base that is not one of NVIDIA's known images."""
        known = releases.of_reference(self.base)
        return advisories.EMBEDDED if self.kind == "slim" else known.triton if known else None

    @property
    def epoch(self) -> int:
        """When the newest model was built, in seconds: the time of every file, so that equal images are equal."""
        times = [_seconds(time) for time in recorded(self.models, "built_at")]
        return max(times, default=0)


def _seconds(time: str) -> int:
    """0 for what was written into a config by hand and is no time."""
    try:
        return max(0, int(datetime.fromisoformat(time).timestamp()))
    except (ValueError, OverflowError):
        return 0


def labels(order: Order) -> dict[str, str]:
    """Where an image comes from, for whoever inspects it."""
    models = [
        {"name": model.name, "version": model.version} | {key: facts[key] for key in TOLD if key in facts}
        for model in order.models
        for facts in [model.network.facts]
    ]
    found = {
        LABEL: order.kind,
        "build-repo.version": __version__,
        "build-repo.requirements": " ".join(order.requirements),
        "build-repo.models": json.dumps(models, sort_keys=True) if order.bake else "mounted",
        "org.opencontainers.image.title": "Triton with " + ", ".join(model.name for model in order.models)
        if order.bake
        else "Triton for a mounted repository",
        "org.opencontainers.image.created": datetime.fromtimestamp(order.epoch, UTC).isoformat(),
        BASE_NAME: order.base,
    }
    found |= {TRITON: order.triton} if order.triton else {}
    found |= {FINGERPRINT: order.fingerprint} if order.fingerprint else {}
    return found | ({"org.opencontainers.image.base.digest": order.base_digest} if order.base_digest else {})
