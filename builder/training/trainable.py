"""The network that learns: new, or with the weights of another that it is to differ from in its classes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from builder import networks
from builder.data.recipe import PreprocessRecipe, resolved
from builder.errors import NetworkError
from builder.manifest.models import parse_weights
from builder.networks.making import settled
from builder.networks.outputs import described
from builder.networks.state_files import shortened
from builder.training.spec import Run
from builder.types import Network, NetworkRequest, WeightsSource
from builder.util.usercode import border, load_callable

if TYPE_CHECKING:
    import torch
    from torch import nn

CLASSES = "num_classes"


@dataclass
class TrainableNetwork:
    """A module float32 [B, C, H, W] -> logits [B, classes], and what it was made with."""

    module: nn.Module
    recipe: PreprocessRecipe
    arguments: dict[str, Any]
    """Keyword arguments of its constructor, for the card: serving makes the same network."""
    origin: str
    head: set[str] = field(default_factory=set)
    """Parameters that no weights were found for."""
    note: str = ""
    """What one should know of how the weights that it starts from were read."""


def make(run: Run, classes: int) -> TrainableNetwork:
    """As the run's spec says, with that many classes. Raises ManifestError, NetworkError, WeightsError."""
    spec = run.spec
    try:
        family = networks.find(spec.network)
    except NetworkError as error:
        raise run.error(str(error), "network") from None
    if family is networks.NETWORKS["huggingface"]:
        raise run.error(
            "snapshots are trained by transformers itself (its Trainer), and built from what it saves: train there, or "
            "name a callable of your own that makes the network for `num_classes`",
            "network",
        )
    _refuse_unknown_arguments(run, family.arguments(spec.network))
    source = parse_weights(spec.weights, run.base, spec.seed)
    request = NetworkRequest(spec.network, source, spec.arguments, run.base)
    # The network that the weights were made for may have other classes: its last layer stays behind.
    start = family.make(request) if source.kind in ("named", "file") else None
    arguments = {**(start.arguments if start else {}), **spec.arguments, **_classes_argument(run, classes)}
    kind = "included" if source.kind == "included" else "random"
    own = WeightsSource(kind, kind, seed=spec.seed)
    fresh = family.make(NetworkRequest(spec.network, own, arguments, run.base))
    recipe = _recipe(run, start or fresh)
    module = settled(fresh.module, recipe.shape, spec.seed, spec.network)
    return _started(TrainableNetwork(module, recipe, arguments, source.name), start, spec.network)


def _started(network: TrainableNetwork, start: Network | None, name: str) -> TrainableNetwork:
    """The network, with the weights of `start` where there is one."""
    if start:
        network.head = _take_over(network.module, start.module.state_dict(), name)
        network.note = start.provenance.get(networks.weights.READ_AS, "")
    network.head = network.head or last_layer(network.module)
    return network


def _refuse_unknown_arguments(run: Run, known: Sequence[str] | None) -> None:
    for key in run.spec.arguments:
        if known is not None and key not in known:
            message = f"{run.spec.network} has no such argument; it takes {', '.join(known)}"
            raise run.error(message, "arguments", key)


def _classes_argument(run: Run, classes: int) -> dict[str, int]:
    """Callables of the user's own may have as many outputs as they like, and no argument for it."""
    given = run.spec.arguments.get(CLASSES)
    if given not in (None, classes):
        raise run.error(f"the data has {classes} classes; leave num_classes out", "arguments", CLASSES)
    if networks.callables.matches(run.spec.network):
        function = load_callable(run.spec.network, run.base, NetworkError)
        known = inspect.signature(function).parameters.values()
        if not any(p.name == CLASSES or p.kind is p.VAR_KEYWORD for p in known):
            return {}
    return {CLASSES: classes}


def _recipe(run: Run, network: Network) -> PreprocessRecipe:
    try:
        return resolved(network.recipe, run.spec.preprocess)
    except ValueError as error:
        raise run.error(str(error), "preprocess") from None


def _take_over(module: nn.Module, state: dict[str, torch.Tensor], name: str) -> set[str]:
    """Copy what fits; the names of what does not, which must be the last layer alone."""
    own = module.state_dict()
    fitting = {key: value for key, value in state.items() if key in own and own[key].shape == value.shape}
    rest = set(own) - set(fitting)
    last = last_layer(module)
    if not rest <= last:
        strange = sorted(rest - last)
        raise NetworkError(
            f"the weights fit {name} with these arguments in more than the last layer: not in {', '.join(strange[:3])}"
            f"{' and others' * (len(strange) > 3)}; correct `arguments:` or `weights:`"
        )
    module.load_state_dict(fitting, strict=False)
    return rest


def last_layer(module: nn.Module) -> set[str]:
    """Parameters of the last module that has some: the classifier's."""
    holders = [name for name, part in module.named_modules() if any(True for _ in part.parameters(recurse=False))]
    last = module.get_submodule(holders[-1])
    return {f"{holders[-1]}.{name}".removeprefix(".") for name, _ in last.named_parameters(recurse=False)}


def parameter_names(network: TrainableNetwork, run: Run) -> set[str]:
    """The parameters that learn from the start. Raises ManifestError."""
    names = [name for name, _ in network.module.named_parameters()]
    wanted = run.spec.learn
    if wanted == "all":
        return set(names)
    if wanted == "head":
        return network.head & set(names)
    for part in wanted:
        if not any(_within(name, part) for name in names):
            parts = ", ".join(name for name, _ in network.module.named_children())
            raise run.error(f"{run.spec.network} has no part {part!r}; it has {parts}", "learn")
    return {name for name in names if any(_within(name, part) for part in wanted)}


def _within(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")


def set_trainable(module: nn.Module, names: set[str]) -> None:
    """Those parameters learn; parts without any are put in evaluation mode, so that their averages stay, too."""
    module.train()
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in names)
    for part in _frozen(module):
        part.eval()


def _frozen(module: nn.Module) -> Iterator[nn.Module]:
    for part in module.modules():
        own = list(part.parameters())
        if own and not any(parameter.requires_grad for parameter in own):
            yield part


def probe(network: TrainableNetwork, images: torch.Tensor, classes: int, name: str) -> None:
    """Raise NetworkError if images of the recipe do not become one score a class."""
    import torch

    shape = "x".join(map(str, network.recipe.shape))
    way_out = "; correct `preprocess:` (channels, resize, crop) or `arguments:`"
    with border(NetworkError, f"{name} fails on {shape} images", way_out), torch.inference_mode():
        scores = network.module.eval()(images)
    if not isinstance(scores, torch.Tensor) or scores.shape != (len(images), classes):
        raise NetworkError(
            f"{name} gives {described(scores)} for {len(images)} images of {classes} classes; one score a class is "
            "needed"
        )
    if extra := [key for key, value in network.module.state_dict().items() if not isinstance(value, torch.Tensor)]:
        raise NetworkError(
            f"{name} keeps extra state ({shortened(extra)}), for which a run's weights, which are safetensors, have no "
            "room; train it without get_extra_state()"
        )
