"""Every classification network of torchvision.models, by torchvision's own names.

The weights named by torchvision are fitted as torchvision's builders would do it, but into a module
that was never initialised; `tests/test_networks.py` holds each one to torchvision's own figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.data.recipe import recipe_from_transforms
from builder.errors import WeightsError
from builder.networks import state_files, weights
from builder.types import Network, NetworkFacts, NetworkRequest, WeightsSource
from builder.util.hashing import sha256

if TYPE_CHECKING:
    from torch import nn

DEFAULT_WEIGHTS: str | None = "DEFAULT"

# Auxiliary heads exist for training alone; the checkpoints hold their weights all the same.
AUXILIARY_PREFIXES = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}

YEARS = {
    "alexnet": 2012, "convnext": 2022, "densenet": 2016, "efficientnet": 2019, "googlenet": 2014,
    "inception": 2015, "maxvit": 2022, "mnasnet": 2018, "mobilenetv2": 2018, "mobilenetv3": 2019,
    "regnet": 2020, "resnet": 2015, "shufflenetv2": 2018, "squeezenet": 2016,
    "swin_transformer": 2021, "vgg": 2014, "vision_transformer": 2020,
}  # fmt: skip
"""Year of the family's first paper."""

# Tracing all of them takes half a minute, so the counts are kept; a test traces them again.
LAYERS = {
    "alexnet": 8, "convnext_base": 113, "convnext_large": 113, "convnext_small": 113, "convnext_tiny": 59,
    "densenet121": 121, "densenet161": 161, "densenet169": 169, "densenet201": 201, "efficientnet_b0": 82,
    "efficientnet_b1": 116, "efficientnet_b2": 116, "efficientnet_b3": 131, "efficientnet_b4": 161,
    "efficientnet_b5": 195, "efficientnet_b6": 225, "efficientnet_b7": 274, "efficientnet_v2_l": 340,
    "efficientnet_v2_m": 246, "efficientnet_v2_s": 171, "googlenet": 22, "inception_v3": 48, "maxvit_t": 147,
    "mnasnet0_5": 53, "mnasnet0_75": 53, "mnasnet1_0": 53, "mnasnet1_3": 53, "mobilenet_v2": 53,
    "mobilenet_v3_large": 64, "mobilenet_v3_small": 54, "regnet_x_16gf": 68, "regnet_x_1_6gf": 56,
    "regnet_x_32gf": 71, "regnet_x_3_2gf": 77, "regnet_x_400mf": 68, "regnet_x_800mf": 50, "regnet_x_8gf": 71,
    "regnet_y_128gf": 137, "regnet_y_16gf": 92, "regnet_y_1_6gf": 137, "regnet_y_32gf": 102,
    "regnet_y_3_2gf": 107, "regnet_y_400mf": 82, "regnet_y_800mf": 72, "regnet_y_8gf": 87, "resnet101": 101,
    "resnet152": 152, "resnet18": 18, "resnet34": 34, "resnet50": 50, "resnext101_32x8d": 101,
    "resnext101_64x4d": 101, "resnext50_32x4d": 50, "shufflenet_v2_x0_5": 51, "shufflenet_v2_x1_0": 51,
    "shufflenet_v2_x1_5": 51, "shufflenet_v2_x2_0": 51, "squeezenet1_0": 18, "squeezenet1_1": 18,
    "swin_b": 101, "swin_s": 101, "swin_t": 53, "swin_v2_b": 102, "swin_v2_s": 102, "swin_v2_t": 54,
    "vgg11": 11, "vgg11_bn": 11, "vgg13": 13, "vgg13_bn": 13, "vgg16": 16, "vgg16_bn": 16, "vgg19": 19,
    "vgg19_bn": 19, "vit_b_16": 50, "vit_b_32": 50, "vit_h_14": 130, "vit_l_16": 98, "vit_l_32": 98,
    "wide_resnet101_2": 101, "wide_resnet50_2": 50,
}  # fmt: skip
"""Weighted layers on the longest way from input to output (attention counts as two)."""


def names() -> Sequence[str]:
    return tuple(LAYERS)  # importing torchvision to ask takes seconds; a test compares the two


def facts(name: str) -> NetworkFacts:
    from torchvision.models import get_model_builder

    meta = weights_of(name).DEFAULT.meta
    ((dataset, metrics),) = meta["_metrics"].items()
    family = get_model_builder(name).__module__.rsplit(".", 1)[-1]
    return NetworkFacts(
        name=name,
        family=family,
        year=YEARS[family],
        layers=LAYERS[name],
        # torchvision counts Inception's auxiliary head in.
        parameters=23_834_568 if name == "inception_v3" else meta["num_params"],
        top1=metrics["acc@1"],
        top5=metrics["acc@5"],
        gflops=meta["_ops"],
        dataset=dataset,
    )


def arguments(name: str) -> Sequence[str] | None:
    del name  # builders hand on whatever they get
    return None


def make(request: NetworkRequest) -> Network:
    source = request.weights
    if source.kind == "random":
        return _random(request)
    if source.kind == "file":
        return _from_file(request, source)
    entry = entry_named(request.name, source)
    return _pretrained(request, entry, weights.download(entry.url))


def weights_of(name: str) -> Any:
    """torchvision's enumeration of a network's weights."""
    from torchvision.models import get_model_weights

    return get_model_weights(name)


def entry_named(name: str, source: WeightsSource) -> Any:
    """Of torchvision's enumeration of a network's weights. Raises WeightsError."""
    members, entry = weights_of(name), source.name
    if source.kind != "named":
        raise WeightsError(
            f"`weights: {entry}` is for your own callables; {name} takes {', '.join(members.__members__)}, a file, or "
            "random"
        )
    if entry != "DEFAULT" and entry not in members.__members__:
        known = ", ".join(["DEFAULT", *members.__members__])
        raise WeightsError(f"{name} has no weights named {entry!r}; it has {known}; {state_files.WAYS_OUT}")
    return members[entry] if entry != "DEFAULT" else members.DEFAULT


def _random(request: NetworkRequest) -> Network:
    entry = _first(request.name)
    size = {key: value for key, value in entry_arguments(request.name, entry).items() if key == "image_size"}
    module = weights.make_random(_maker(request, size), request.weights.seed)
    labels = None if "num_classes" in request.arguments else _labels(entry)
    recipe = recipe_from_transforms(entry.transforms())
    return Network(module.eval(), recipe, labels, False, weights.provenance(request), size)


def _from_file(request: NetworkRequest, source: WeightsSource) -> Network:
    """A user's file; a copy of one of torchvision's own is recognised by its hash.

    Without that, a downloaded googlenet-1378be20.pth would silently lack `transform_input`.
    """
    path = source.path
    assert path is not None  # parse_weights gives every "file" source one
    saved = state_files.read(path)
    entry = recognised(weights_of(request.name), sha256(path))
    if entry is not None:
        return _pretrained(request, entry, path)
    unused = AUXILIARY_PREFIXES.get(request.name, ())
    module, facts = weights.make_with_state(_maker(request, {}), saved, str(path), unused)
    recipe = recipe_from_transforms(_first(request.name).transforms())
    return Network(module.eval(), recipe, None, True, weights.provenance(request) | facts)


def recognised(entries: Iterable[Any], digest: str) -> Any:
    """The entry whose published file has this SHA-256, or None."""
    for entry in entries:
        expected = weights.url_digest(entry.url)
        if expected and digest.startswith(expected):
            return entry
    return None


def _pretrained(request: NetworkRequest, entry: Any, path: Path) -> Network:
    arguments = entry_arguments(request.name, entry)
    make = _maker(request, arguments)
    unused = AUXILIARY_PREFIXES.get(request.name, ())
    module, facts = weights.make_with_state(make, state_files.read(path), f"{entry} of {request.name}", unused)
    provenance = weights.provenance(request, path) | {"weights": str(entry)} | facts
    recipe = recipe_from_transforms(entry.transforms())
    return Network(module.eval(), recipe, _labels(entry), True, provenance, arguments)


def entry_arguments(name: str, entry: Any) -> dict[str, Any]:
    """What torchvision's builder passes to the constructor when it is given these weights."""
    if name in AUXILIARY_PREFIXES:
        return {"transform_input": True}
    if name.startswith("vit_"):
        return {"image_size": entry.meta["min_size"][0]}
    return {}


def _maker(request: NetworkRequest, arguments: dict[str, Any]) -> Any:
    from torchvision.models import get_model_builder

    build = get_model_builder(request.name)
    if request.name in AUXILIARY_PREFIXES:
        random = request.weights.kind == "random"
        arguments = {"aux_logits": False, "init_weights": random} | arguments

    def make() -> nn.Module:
        return build(weights=None, **(arguments | request.arguments))  # type: ignore[no-any-return]

    return weights.guard_arguments(make, request)


def _first(name: str) -> Any:
    return next(iter(weights_of(name)))


def _labels(entry: Any) -> tuple[str, ...]:
    return tuple(entry.meta["categories"])
