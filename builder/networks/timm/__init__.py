"""The networks of the package timm, each as `timm/NAME`, or `timm/NAME.TAG` as timm itself calls pretrained weights.

Sizes, interpolation, crop, mean and standard deviation are those of the weights' own configuration; `recipe.py` says
them as a recipe, and `tests/test_timm_recipes.py` holds that to timm's evaluation transform, to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence

from builder.networks.timm import known, loading
from builder.networks.timm.known import PREFIX
from builder.types import Network, NetworkFacts, NetworkRequest

DEFAULT_WEIGHTS: str | None = "DEFAULT"
PACKAGES: tuple[str, ...] = ("timm",)
PATTERN = f"^{PREFIX}[A-Za-z0-9_]+(\\.[A-Za-z0-9_]+)?$"
HINT = f"{PREFIX}NAME of the package timm, such as {PREFIX}resnet50.a1_in1k"


def matches(name: str) -> bool:
    """Names with a colon are one's own callables, of a folder called timm, but for timm's form of the hub's."""
    return name.startswith(known.HUB) or (name.startswith(PREFIX) and ":" not in name)


def names() -> Sequence[str]:
    return ()  # there are more than a thousand: `listed` has those that are asked for


def require(name: str) -> None:
    known.require(name)


def listed(pattern: str) -> list[NetworkFacts]:
    return [known.facts(name) for name in known.listed(pattern)]


def facts(name: str) -> NetworkFacts:
    return known.facts(name)


def arguments(name: str) -> Sequence[str] | None:
    del name  # its constructors hand on whatever they get
    return None


def make(request: NetworkRequest) -> Network:
    """Raises NetworkError, WeightsError."""
    return loading.make(request)
