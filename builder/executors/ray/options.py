"""What a build on a cluster is told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    storage: str
    """A folder that all nodes share, or a URI of fsspec."""
    address: str = "auto"
    accelerators: tuple[str, ...] = ()
    """GPU generations by Ray's names; none: all that the cluster has."""
    cpus: int = 1
    """Of each task."""
    pack: tuple[str, ...] = ()
    """Files and folders beside those that the entries name, relative to the manifest."""
    retries: int = 3
    """How often a task is begun again whose node or process died."""
    patience_s: float = 60
    """How long a task waits for a node that could run it, once the last one has gone."""
