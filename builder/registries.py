"""What the registries offer, for whoever describes the manifest."""

from __future__ import annotations

from builder import networks
from builder.exporters import EXPORTERS


def manifest_choices() -> dict[str, list[str]]:
    """The names that a manifest's keys may take."""
    return {
        "network": networks.all_names(),
        "format": list(EXPORTERS),
        "precision": sorted({precision for exporter in EXPORTERS.values() for precision in exporter.PRECISIONS}),
    }
