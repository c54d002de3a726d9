"""Networks that end at one of their layers: `layer: flatten`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from builder.errors import BuilderError, NetworkError
from builder.util.usercode import border

if TYPE_CHECKING:
    import torch
    from torch import nn

SHOWN = 3
LAST = 8


def ended(module: nn.Module, layer: str, name: str) -> nn.Module:
    """The network up to this layer, which is a node of its graph (torch.fx), or one of its modules, by dotted name.

    Raises NetworkError, with the names that are close.
    """
    nodes = _nodes(module)
    modules = [part for part, _ in module.named_modules() if part]
    if nodes is None:
        if layer not in modules:
            raise NetworkError(f"{name} {_unknown(layer, modules)}; its code is not one that torch.fx can follow")
        return _hooked(module, layer)
    if not any(node == layer or node.startswith(f"{layer}.") for node in nodes):
        raise NetworkError(f"{name} {_unknown(layer, nodes)}")
    from torchvision.models.feature_extraction import create_feature_extractor

    with border(NetworkError, f"{name} cannot be ended at {layer}"):
        ended = create_feature_extractor(module, return_nodes={layer: "layer"}, suppress_diff_warning=True)
        return _alone(ended)


def _nodes(module: nn.Module) -> list[str] | None:
    """Of its graph, in evaluation mode, without the inputs; None where torch.fx cannot follow its code."""
    import torch
    from torchvision.models.feature_extraction import get_graph_node_names

    try:
        with border(NetworkError, "its graph"), torch.no_grad():
            _, nodes = get_graph_node_names(module, suppress_diff_warning=True)
    except BuilderError:
        return None
    return list(nodes[1:])


def _unknown(layer: str, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(layer, [*names, *_parents(names)], SHOWN)
    told = f"did you mean {' or '.join(close)}?" if close else f"its last ones are {', '.join(names[-LAST:])}"
    return f"has no layer {layer!r}; {told}"


def _parents(names: Iterable[str]) -> list[str]:
    """Modules that nodes are of: `layer4` of `layer4.0.conv1`."""
    found: dict[str, None] = {}
    for name in names:
        parts = name.split(".")
        found |= dict.fromkeys(".".join(parts[:end]) for end in range(1, len(parts)))
    return list(found)


def _alone(extractor: nn.Module) -> nn.Module:
    from torch import nn

    class Ended(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = extractor

        def forward(self, pixels: torch.Tensor) -> Any:
            return self.network(pixels)["layer"]

    return Ended().eval()


def _hooked(module: nn.Module, layer: str) -> nn.Module:
    """What the layer gives while the whole network runs; what is computed behind it, an exporter leaves out."""
    from torch import nn

    class Hooked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = module

        def forward(self, pixels: torch.Tensor) -> Any:
            return given(self.network, layer, pixels)

    return Hooked().eval()


def given(module: nn.Module, layer: str, pixels: torch.Tensor) -> Any:
    """What one of the modules gives while the whole network runs, the last time that it is asked."""
    found: list[Any] = []
    handle = module.get_submodule(layer).register_forward_hook(lambda *call: found.append(_kept(call[-1])))
    try:
        module(pixels)
    finally:
        handle.remove()
    return found[-1]


def _kept(result: Any) -> Any:
    """A copy, which what comes behind cannot change in place, as nn.ReLU(inplace=True) would."""
    return result.clone() if hasattr(result, "clone") else result
