"""timm's modules with their weights: timm's own by its own loader, a file of the user's by ours, or random ones."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.data.recipe import PreprocessRecipe
from builder.errors import NetworkError, WeightsError
from builder.networks import fitting, making, state_files, weights
from builder.networks.readings import unwrapped
from builder.networks.state_files import WAYS_OUT, Saved
from builder.networks.timm import known, recipe, sources
from builder.types import Network, NetworkRequest
from builder.util.usercode import border

if TYPE_CHECKING:
    from torch import nn

# What the entry says elsewhere, or what only a program could use.
SAID_ELSEWHERE = {
    "pretrained": "`weights:` says it",
    "checkpoint_path": "`weights:` takes a file",
    "pretrained_cfg": "write the tag into `network:`, as timm/NAME.TAG",
    "scriptable": "the exporters see to it",
    "exportable": "the exporters see to it",
}
FILTER = "checkpoint_filter_fn"
# What timm's loader reports and goes on with: parts of the network would be left to chance.
LEFT_TO_CHANCE = ("random init", "Missing keys")


def make(request: NetworkRequest) -> Network:
    """Raises NetworkError, WeightsError."""
    known.require(request.name)
    _refuse_arguments(request)
    source = request.weights
    architecture, tag = known.split(request.name)
    if source.kind == "random":
        module = weights.make_random(_maker(request, architecture, tag), source.seed)
        return _network(request, module, tag, {}, trained=False)
    if source.kind == "file":
        assert source.path is not None  # parse_weights gives every "file" source one
        module, facts = _of_file(request, architecture, tag, source.path)
        return _network(request, module, tag, facts, trained=True)
    if source.kind != "named":
        raise WeightsError(
            f"`weights: {source.name}` is for your own callables; {request.name} takes DEFAULT, the tag of some of "
            "timm's own, a file, or random"
        )
    return _pretrained(request, architecture, _chosen(request, architecture, tag))


def _refuse_arguments(request: NetworkRequest) -> None:
    for key in request.arguments:
        if key in SAID_ELSEWHERE:
            raise NetworkError(f"arguments: {key} is not for {request.name}: {SAID_ELSEWHERE[key]}; leave it out")


def _chosen(request: NetworkRequest, architecture: str, tag: str) -> str:
    """The tag of the weights: the entry's, or timm's default. Raises WeightsError."""
    name = request.weights.name
    if name != "DEFAULT":
        if tag and name != tag:
            raise WeightsError(f"{request.name} names the weights {tag!r} already; leave out `weights: {name}`")
        if name not in known.tags(architecture):
            raise WeightsError(known.unknown_tag(architecture, name, WAYS_OUT))
        return name
    found = tag or known.default_tag(architecture)
    config = known.config(architecture, found)
    if config is None or not config.has_weights:
        raise WeightsError(known.without_weights(architecture, WAYS_OUT, known.tags(architecture)))
    return found


def _maker(request: NetworkRequest, architecture: str, tag: str, pretrained: bool = False) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        import timm

        found: nn.Module = timm.create_model(
            architecture, pretrained=pretrained, pretrained_cfg=tag or None, **request.arguments
        )
        return found

    return make if pretrained else weights.guard_arguments(make, request)


def _pretrained(request: NetworkRequest, architecture: str, tag: str) -> Network:
    """timm's own weights, by its loader. Raises WeightsError."""
    name = f"{architecture}.{tag}" if tag else architecture
    config = known.config(architecture, tag)
    _require_classes(request, name, config.num_classes)
    _try_arguments(request, architecture, tag)
    source = sources.described(config)
    with _told() as lines:
        after = f"; {sources.way_out(config)}, or {WAYS_OUT}"
        with border(WeightsError, f"timm cannot load the weights {name} from {source}", after):
            module = weights.make_random(_maker(request, architecture, tag, pretrained=True), request.weights.seed)
    for line in lines:
        if any(word in line for word in LEFT_TO_CHANCE):
            raise WeightsError(f"the weights {name} do not fit {request.name} with these arguments: {line}")
    fitting.require_numbers(module, f"{name} of timm")
    facts = {"weights": name, "weights_source": source} | sources.facts(config, request.arguments.get("cache_dir"))
    return _network(request, module, tag, facts, trained=True)


def _try_arguments(request: NetworkRequest, architecture: str, tag: str) -> None:
    """Raise NetworkError for those that timm does not know, before anything is fetched."""
    make = _maker(request, architecture, tag)
    if making.hollow(make) is None:
        make()


def _require_classes(request: NetworkRequest, name: str, classes: int) -> None:
    """Raise WeightsError where the last layer would be left to chance."""
    wanted = request.arguments.get("num_classes", classes)
    if wanted not in (classes, 0):
        raise WeightsError(
            f"the weights {name} have {classes} classes, so that the last layer of {wanted} would be left to chance; "
            "leave num_classes out, or train it: `build-repo train`"
        )


@contextmanager
def _told() -> Iterator[list[str]]:
    """What timm's loader says meanwhile."""
    lines: list[str] = []

    class Heard(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    logger, handler = logging.getLogger("timm"), Heard()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def _of_file(request: NetworkRequest, architecture: str, tag: str, path: Path) -> tuple[nn.Module, dict[str, str]]:
    """A file of the network's own keys, or of older ones that timm itself renames. Raises WeightsError."""
    saved = state_files.read(path)
    maker = _maker(request, architecture, tag)
    try:
        return weights.make_with_state(maker, saved, str(path))
    except WeightsError as error:
        found = _filtered(architecture, maker, saved)
        if found is None:
            raise
        try:
            return weights.make_with_state(maker, found, str(path))
        except WeightsError:
            raise error from None


def _filtered(architecture: str, maker: Callable[[], nn.Module], saved: Saved) -> Saved | None:
    """What timm makes of older forms of its keys; None where it does nothing, or fails."""
    from timm.models import model_entrypoint

    change = getattr(sys.modules[model_entrypoint(architecture).__module__], FILTER, None)
    if change is None:
        return None
    try:
        with border(WeightsError, FILTER):
            tensors = change({unwrapped(key): value for key, value in saved.tensors.items()}, maker())
    except WeightsError:
        return None
    note = f"the keys were brought up to date by timm's {FILTER}"
    return replace(saved, tensors=dict(tensors), versions=None, notes=(*saved.notes, note))


def _network(request: NetworkRequest, module: nn.Module, tag: str, facts: dict[str, str], trained: bool) -> Network:
    """`tag`: of the weights that the module has, or was asked to have by its name."""
    config = _configuration(module)
    own, why = _recipe(module, request)
    classes = getattr(module, "num_classes", None)
    is_whole = classes == config.get("num_classes") and "num_classes" not in request.arguments
    is_known = tag or not trained or request.weights.kind == "named"  # of a file without a tag nothing is known
    named = known.labels(config) if is_whole and is_known else None
    licence = _licence(config) if trained and is_known else {}
    return Network(
        making.evaluated(module),
        own,
        named,
        trained,
        weights.provenance(request) | facts | licence,
        recipe_missing=why,
        task=known.task_of(classes) if "num_classes" not in request.arguments else _task(classes),
    )


def _configuration(module: nn.Module) -> dict[str, Any]:
    """timm's, of the weights that the module was made for, with what `pretrained_cfg_overlay` says."""
    found: Any = getattr(module, "pretrained_cfg", None) or {}
    return dict(found) if isinstance(found, Mapping) else dict(found.to_dict())


def _task(classes: int | None) -> str:
    return "classification" if classes is not None and classes > 0 else "embedding"


def _recipe(module: nn.Module, request: NetworkRequest) -> tuple[PreprocessRecipe | None, str]:
    """The recipe, or why there is none."""
    with border(NetworkError, f"timm does not tell how {request.name} takes pictures"):
        found = recipe.resolved(module, request.arguments)
    try:
        return recipe.recipe_of(found), ""
    except recipe.NoRecipe as error:
        return None, str(error)


def _licence(config: Mapping[str, Any]) -> dict[str, str]:
    return {weights.LICENCE: str(config["license"])} if config.get("license") else {}
