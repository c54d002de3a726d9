"""LeNet-5 for 28x28 grayscale images, with the ReLU and max pooling of later years.

Y. LeCun et al., "Gradient-based learning applied to document recognition", 1998.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING

from builder.data.recipe import PreprocessRecipe
from builder.networks import weights
from builder.types import Network, NetworkFacts, NetworkRequest

if TYPE_CHECKING:
    from torch import nn

DEFAULT_WEIGHTS: str | None = None
RECIPE = PreprocessRecipe(channels=1, resize=(28, 28))


def names() -> Sequence[str]:
    return ("lenet",)


def make(request: NetworkRequest) -> Network:
    return weights.make_network(lambda: lenet(**request.arguments), request, RECIPE)


def facts(name: str) -> NetworkFacts:
    return NetworkFacts(name, "lenet", 1998, 5, 61_706, None, None, 0.000417, None)


def arguments(name: str) -> Sequence[str] | None:
    del name
    return tuple(inspect.signature(lenet).parameters)


def lenet(num_classes: int = 10) -> nn.Module:
    """float32 [B, 1, 28, 28] -> logits [B, num_classes]."""
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 5 * 5, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, num_classes),
    )
