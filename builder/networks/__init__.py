"""Where torch modules come from. A family is a module with what `Family` lists."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from builder.errors import NetworkError
from builder.networks import (
    alexnet_gray,
    callables,
    lenet,
    timm,
    torchvision,
    torchvision_detection,
    torchvision_segmentation,
)
from builder.networks.huggingface import family as huggingface
from builder.types import Network, NetworkFacts, NetworkRequest


class Family(Protocol):
    DEFAULT_WEIGHTS: str | None
    """Taken where the manifest names none; None: it must name some."""

    def names(self) -> Sequence[str]:
        """The networks of this family."""

    def make(self, request: NetworkRequest) -> Network:
        """The network, with its weights, in evaluation mode. Raises NetworkError, WeightsError."""

    def facts(self, name: str) -> NetworkFacts:
        """What is known of one of `names()`."""

    def arguments(self, name: str) -> Sequence[str] | None:
        """Those that its constructor takes; None: only making it tells."""


class Source(Family, Protocol):
    """A family of more networks than are listed: their names begin alike, and another package has them."""

    PACKAGES: tuple[str, ...]
    """The distributions that they come from, whose versions are part of a build."""
    PATTERN: str
    """What all its names look like, for the schema."""
    HINT: str
    """How its names are written, in a few words."""

    def matches(self, name: str) -> bool:
        """Whether a name is of this kind, be there such a network or not."""

    def require(self, name: str) -> None:
        """Raise NetworkError for a name of this kind that there is not, or where the package is missing."""

    def listed(self, pattern: str) -> list[NetworkFacts]:
        """Of those that a shell's pattern fits. Raises NetworkError."""


NETWORKS: dict[str, Family] = {
    "torchvision": torchvision,
    "torchvision_detection": torchvision_detection.FAMILY,
    "torchvision_segmentation": torchvision_segmentation,
    "lenet": lenet,
    "alexnet_gray": alexnet_gray,
    "callables": callables,
    "huggingface": huggingface,
    "timm": timm,
}
SOURCES: dict[str, Source] = {"timm": timm}
BY_FORM = (huggingface, callables)
"""Families of any number of networks, told by how these are written: `matches(name)`."""


def find(name: str) -> Family:
    """The family that makes `name`. Raises NetworkError."""
    if source := source_of(name):
        source.require(name)
        return source
    for open_family in BY_FORM:
        if open_family.matches(name):
            return open_family
    for family in NETWORKS.values():
        if name in family.names():
            return family
    close = difflib.get_close_matches(name, all_names(), n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else "`build-repo networks` lists them"
    raise NetworkError(f"there is no network {name!r}; {hint} Your own is named path/file.py:callable")


def source_of(name: str) -> Source | None:
    """That whose names look like this one; None: it is a name of ours, or one's own callable or file."""
    return next((source for source in SOURCES.values() if source.matches(name)), None)


def is_known(name: str) -> bool:
    """Whether facts are known of such a name before it is made. Raises NetworkError, as `find` does."""
    return name in all_names() or bool(source_of(name) and find(name))


def made_for(name: str, base: Path) -> str | None:
    """The task of a network, where it is known before it is made. Paths are relative to `base`. Raises NetworkError."""
    if huggingface.matches(name):
        return huggingface.task(name, base)
    return find(name).facts(name).task if name in all_names() else None


def all_names() -> list[str]:
    return [name for family in NETWORKS.values() for name in family.names()]
