"""A network layer by layer: shapes, parameters, and how much there is to compute."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder import networks
from builder.errors import NetworkError
from builder.networks import detectors
from builder.networks.making import hollow, settled
from builder.types import NetworkRequest, WeightsSource
from builder.util.usercode import border, undone

if TYPE_CHECKING:
    import torch
    from torch import nn

Shape = tuple[int, ...]
"""Axes of a tensor without the batch's."""


@dataclass(frozen=True)
class Layer:
    """One call of a module that has no modules in it."""

    name: str
    kind: str
    """As PyTorch prints it, such as Conv2d(1, 96, kernel_size=(11, 11), stride=(4, 4))."""
    input: Shape
    output: Shape
    parameters: int
    """0 if an earlier layer has told them."""
    multiply_adds: int
    """Of convolutions, matrix products and attention, for one image."""


@dataclass(frozen=True)
class Description:
    network: str
    input: Shape
    layers: tuple[Layer, ...]
    parameters: int
    multiply_adds: int
    """Of the whole, what happens between the layers included. FLOPs are about twice as many."""


@undone()
def describe(name: str, shape: Shape | None = None, arguments: dict[str, Any] | None = None) -> Description:
    """Raises NetworkError. The network has no weights; shapes alone pass through it where it can do with them."""
    family = networks.find(name)
    request = NetworkRequest(name, WeightsSource("random", "random"), arguments or {}, Path())
    network = hollow(lambda: family.make(request)) or family.make(request)
    if shape is None and network.recipe is None:
        raise NetworkError(f"nothing tells what images {name} takes; give --input, such as 3x224x224")
    shape = shape or (network.recipe.shape if network.recipe else ())
    module, layers, total = _followed(network.module, family, request, shape)
    return Description(name, shape, tuple(layers), sum(p.numel() for p in module.parameters()), total)


def _followed(
    module: nn.Module, family: networks.Family, request: NetworkRequest, shape: Shape
) -> tuple[nn.Module, list[Layer], int]:
    """The module, with what an image meets in it: shapes alone, or numbers if one's own needs them."""
    try:
        return _run(module, "meta", shape, request.name)
    except NetworkError:
        # Which boxes a detector keeps depends on numbers.
        if not any(f.matches(request.name) for f in networks.BY_FORM) and not detectors.is_detector(module):
            raise
    return _run(family.make(request).module, "cpu", shape, request.name)


def _run(module: nn.Module, device: str, shape: Shape, name: str) -> tuple[nn.Module, list[Layer], int]:
    import torch

    size = "x".join(map(str, shape))
    with border(NetworkError, f"{name} fails on {size} images", "; correct --input, or the network"):
        module = settled(module, shape, 0, name).to(device)
        layers, total = _traced(module, torch.rand(1, *shape, device=device))
        return module, layers, total


def parse_shape(text: str) -> Shape:
    """1x224x224 -> (1, 224, 224). Raises NetworkError."""
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.isdigit() and int(part) for part in parts):
        raise NetworkError(f"--input {text}: it takes CHANNELSxHEIGHTxWIDTH, such as 3x224x224")
    return tuple(int(part) for part in parts)


def _traced(module: nn.Module, images: torch.Tensor) -> tuple[list[Layer], int]:
    """What images [1, C, H, W] meet in the module, in order, and the multiply-adds of all."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    tracer = _Tracer(counter.get_total_flops)
    for name, layer in module.named_modules():
        if not list(layer.children()):
            layer.register_forward_pre_hook(tracer.enter)
            layer.register_forward_hook(functools.partial(tracer.leave, name))
    with warnings.catch_warnings(), torch.inference_mode(), counter:
        warnings.simplefilter("ignore")
        module.eval()(images)
    return tracer.layers, counter.get_total_flops() // 2  # a multiplication and an addition are two operations


class _Tracer:
    """Hooks of every layer. A layer that is met twice is told twice, and its parameters once."""

    def __init__(self, operations: Callable[[], int]) -> None:
        """`operations`: floating-point operations so far."""
        self._operations = operations
        self.layers: list[Layer] = []
        self._counted: set[int] = set()
        self._before: list[int] = []

    def enter(self, *_: Any) -> None:
        self._before.append(self._operations())

    def leave(self, name: str, layer: nn.Module, inputs: Sequence[Any], output: Any) -> None:
        own = [parameter for parameter in layer.parameters() if id(parameter) not in self._counted]
        self._counted.update(map(id, own))
        parameters, operations = sum(p.numel() for p in own), self._operations() - self._before.pop()
        self.layers.append(Layer(name, repr(layer), _shape(inputs), _shape([output]), parameters, operations // 2))


def _shape(values: Sequence[Any]) -> Shape:
    """Shape of the first tensor among the values, without the batch; empty if there is none."""
    import torch

    first = next((value for value in values if isinstance(value, torch.Tensor)), None)
    return tuple(first.shape[1:]) if first is not None else ()
