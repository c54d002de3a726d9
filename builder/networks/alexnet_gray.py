"""The simplified AlexNet that the second article trains on Fashion-MNIST at 224x224.

Module and parameter names are the article's, so that state dicts saved by its readers fit.
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
RECIPE = PreprocessRecipe(channels=1, resize=(224, 224))


def names() -> Sequence[str]:
    return ("alexnet_gray",)


def make(request: NetworkRequest) -> Network:
    return weights.make_network(lambda: alexnet_gray(**request.arguments), request, RECIPE)


def facts(name: str) -> NetworkFacts:
    return NetworkFacts(name, "alexnet", 2012, 8, 46_764_746, 90.2, None, 0.938, "Fashion-MNIST")


def arguments(name: str) -> Sequence[str] | None:
    del name
    return tuple(inspect.signature(alexnet_gray).parameters)


def alexnet_gray(num_classes: int = 10) -> nn.Module:
    """float32 [B, 1, 224, 224] -> logits [B, num_classes]."""
    from torch import nn

    class AlexNetGray(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = _features()
            self.fc = _classifier(num_classes)

        def forward(self, image):  # type: ignore[no-untyped-def]
            return self.fc(self.conv(image).flatten(1))

    return AlexNetGray()


def _features() -> nn.Module:
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(1, 96, kernel_size=11, stride=4),
        nn.ReLU(),
        nn.MaxPool2d(kernel_size=3, stride=2),
        nn.Conv2d(96, 256, kernel_size=5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(kernel_size=3, stride=2),
        nn.Conv2d(256, 384, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 384, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(kernel_size=3, stride=2),
    )


def _classifier(num_classes: int) -> nn.Module:
    from torch import nn

    return nn.Sequential(
        nn.Linear(256 * 5 * 5, 4096),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(4096, 4096),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(4096, num_classes),
    )
