"""What the registries offer, for whoever describes the files that name it."""

from __future__ import annotations

from builder import labels, networks
from builder.exporters import EXPORTERS
from builder.training.datasets import DATASETS


def manifest_choices() -> dict[str, list[str]]:
    """The names that a manifest's keys may take."""
    return {
        "network": networks.all_names(),
        "format": list(EXPORTERS),
        "labels": list(labels.SETS),
        "precision": sorted({precision for exporter in EXPORTERS.values() for precision in exporter.PRECISIONS}),
    }


def training_choices() -> dict[str, list[str]]:
    """The names that a training configuration's keys may take."""
    return {"networks": networks.all_names(), "sets": [name for name in DATASETS if name != "callables"]}
