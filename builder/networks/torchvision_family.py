"""torchvision's networks that do more than classify: what its detectors and segmenters have in common.

The weights named by torchvision are fitted as torchvision's builders would do it, but into a module that was never
initialised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.data.recipe import PreprocessRecipe
from builder.networks import state_files, weights
from builder.networks.torchvision import entry_named, recognised, weights_of
from builder.types import Network, NetworkFacts, NetworkRequest
from builder.util.hashing import sha256

if TYPE_CHECKING:
    from torch import nn


@dataclass(eq=False)
class TorchvisionFamily:
    """A `Family` of networks whose modules torchvision's builders of these names make."""

    task: str
    years: Mapping[str, int]
    """Of the first paper, by name: they are the family's names."""
    recipe: Callable[[nn.Module, Any], PreprocessRecipe]
    """Of a module, and the `transforms()` of its weights."""
    unused: tuple[str, ...] = ()
    """Prefixes of weights that exist for training alone."""
    DEFAULT_WEIGHTS: str | None = "DEFAULT"

    def names(self) -> Sequence[str]:
        return tuple(self.years)

    def arguments(self, name: str) -> Sequence[str] | None:
        del name  # builders hand on whatever they get
        return None

    def facts(self, name: str) -> NetworkFacts:
        from torchvision.models import get_model_builder

        meta = weights_of(name).DEFAULT.meta
        ((dataset, metrics),) = meta["_metrics"].items()
        return NetworkFacts(
            name=name,
            family=get_model_builder(name).__module__.rsplit(".", 1)[-1],
            year=self.years[name],
            layers=None,
            parameters=meta["num_params"],
            top1=None,
            top5=None,
            gflops=meta["_ops"],
            dataset=dataset,
            task=self.task,
            box_map=metrics.get("box_map"),
            miou=metrics.get("miou"),
        )

    def make(self, request: NetworkRequest) -> Network:
        """Raises NetworkError, WeightsError."""
        source = request.weights
        if source.kind == "random":
            module = weights.make_random(self._maker(request, {}), source.seed)
            labels = None if "num_classes" in request.arguments else _labels(_first(request.name))
            return self._network(module, _first(request.name), labels, False, weights.provenance(request))
        if source.kind == "file":
            assert source.path is not None  # parse_weights gives every "file" source one
            return self._of_file(request, source.path)
        entry = entry_named(request.name, source)
        return self._pretrained(request, entry, weights.download(entry.url))

    def _of_file(self, request: NetworkRequest, path: Path) -> Network:
        """A user's file; a copy of one of torchvision's own is recognised by its hash."""
        saved = state_files.read(path)
        entry = recognised(weights_of(request.name), sha256(path))
        if entry is not None:
            return self._pretrained(request, entry, path)
        module, facts = weights.make_with_state(self._maker(request, {}), saved, str(path), self.unused)
        return self._network(module, _first(request.name), None, True, weights.provenance(request) | facts)

    def _pretrained(self, request: NetworkRequest, entry: Any, path: Path) -> Network:
        arguments = {"num_classes": len(entry.meta["categories"])}
        saved, what = state_files.read(path), f"{entry} of {request.name}"
        module, facts = weights.make_with_state(self._maker(request, arguments), saved, what, self.unused)
        provenance = weights.provenance(request, path) | {"weights": str(entry)} | facts
        return self._network(module, entry, _labels(entry), True, provenance)

    def _network(
        self, module: nn.Module, entry: Any, labels: tuple[str, ...] | None, trained: bool, facts: dict[str, str]
    ) -> Network:
        return Network(module.eval(), self.recipe(module, entry.transforms()), labels, trained, facts)

    def _maker(self, request: NetworkRequest, arguments: dict[str, Any]) -> Any:
        from torchvision.models import get_model_builder

        build = get_model_builder(request.name)
        # Or torchvision would fetch ImageNet's weights for the backbone.
        own = {"weights": None, "weights_backbone": None} | arguments

        def make() -> nn.Module:
            return build(**(own | request.arguments))  # type: ignore[no-any-return]

        return weights.guard_arguments(make, request)


def _first(name: str) -> Any:
    return next(iter(weights_of(name)))


def _labels(entry: Any) -> tuple[str, ...]:
    return tuple(entry.meta["categories"])
