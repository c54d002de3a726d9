"""What timm has: names, tags of pretrained weights, and their configurations."""

from __future__ import annotations

import difflib
import functools
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from builder.errors import NetworkError
from builder.networks.making import hollow
from builder.types import NetworkFacts

PREFIX = "timm/"
HUB = ("hf-hub:", "hf_hub:", f"{PREFIX}hf-hub:", f"{PREFIX}hf_hub:")
"""How timm itself begins names of the hub's repositories."""
MISSING = "networks called timm/... come from the package timm, which is not installed: pip install '{extra}'"
EXTRA = "triton-build-repo[timm]"
MOST_TAGS = 8
# Of timm's configurations, those of heads that classify: the others project a picture into a space of vectors.
OTHER_CLASSES = frozenset({19168, 115217})
"""Numbers of classes that timm has no labels for."""


def bare(name: str) -> str:
    """timm's own name, with the tag where there is one."""
    return name.removeprefix(PREFIX)


def split(name: str) -> tuple[str, str]:
    """Architecture and tag; the tag is empty where none is said."""
    architecture, _, tag = bare(name).partition(".")
    return architecture, tag


def require_package() -> None:
    """Raise NetworkError where timm is not installed."""
    if importlib.util.find_spec("timm") is None:
        raise NetworkError(MISSING.format(extra=EXTRA))


def require(name: str) -> None:
    """Raise NetworkError for what timm does not have. Importing timm takes seconds: mostly its text is enough."""
    if name.startswith(HUB):
        raise NetworkError(_of_hub(name))
    require_package()
    architecture, tag = split(name)
    if name.endswith("."):
        raise NetworkError(f"{name} ends without a tag; leave out the point, or write {PREFIX}NAME.TAG")
    if not _is_written(architecture, tag) and not _is_registered(architecture, tag):
        raise NetworkError(_unknown(name))


def _is_written(architecture: str, tag: str) -> bool:
    """Whether timm's own files define the name, and the tag."""
    if not architecture.isidentifier():
        return False
    text = _text()
    quoted = f"{architecture}.{tag}"
    return f"\ndef {architecture}(" in text and (not tag or f"'{quoted}'" in text or f'"{quoted}"' in text)


@functools.cache
def _text() -> str:
    spec = importlib.util.find_spec("timm")
    folders = spec.submodule_search_locations if spec else None
    files = [file for folder in folders or () for file in sorted(Path(folder, "models").glob("*.py"))]
    return "\n".join(file.read_text("utf-8", "replace") for file in files)


def _is_registered(architecture: str, tag: str) -> bool:
    """Whether it is there once timm is imported, but for names that timm has given up."""
    import timm

    is_there = bool(timm.is_model(architecture)) and _renamed(architecture) is None
    return is_there and (not tag or tag in tags(architecture))


def _renamed(architecture: str) -> str | None:
    """What timm calls today what it once called so; None where that is no name of old. Weights were a part of names."""
    from timm.models import _registry

    given_up: dict[str, str | None] = getattr(_registry, "_deprecated_models", {})
    return (given_up[architecture] or "") if architecture in given_up else None


def tags(architecture: str) -> list[str]:
    """Of the pretrained weights that timm knows, its default first."""
    import timm

    return [name.partition(".")[2] for name in timm.list_pretrained(f"{architecture}.*") if "." in name]


def config(architecture: str, tag: str = "") -> Any:
    """timm's PretrainedCfg; None where it has none."""
    from timm.models import get_pretrained_cfg

    return get_pretrained_cfg(f"{architecture}.{tag}" if tag else architecture)


def default_tag(architecture: str) -> str:
    """The tag of the weights that timm takes where none is said; empty where there are none, or it has no name."""
    found = config(architecture)
    return str(getattr(found, "tag", None) or "") if found is not None and found.has_weights else ""


def listed(pattern: str) -> list[str]:
    """Names that fit a pattern of shells, of weights where it has a point, else of networks. Raises NetworkError."""
    require_package()
    import timm

    wanted = bare(pattern)
    found = timm.list_pretrained(wanted) if "." in wanted else timm.list_models(wanted)
    if not found:
        raise NetworkError(_unknown(pattern))
    return [f"{PREFIX}{name}" for name in found]


def facts(name: str) -> NetworkFacts:
    """Counted on a network without numbers; what its paper reached is told by no part of timm. Raises NetworkError."""
    require(name)
    import timm

    architecture, tag = split(name)
    made = hollow(lambda: timm.create_model(architecture, pretrained_cfg=tag or None))
    found = config(architecture, tag)
    return NetworkFacts(
        name=name,
        family=_module_of(architecture),
        year=None,
        layers=None,
        parameters=sum(parameter.numel() for parameter in made.parameters()) if made is not None else None,
        top1=None,
        top5=None,
        gflops=None,
        dataset=subset(found.num_classes) if found is not None and tag else None,
        task=task_of(found.num_classes if found is not None else None),
        licence=found.license if found is not None and found.has_weights else None,
    )


def _module_of(architecture: str) -> str:
    from timm.models import model_entrypoint

    return str(model_entrypoint(architecture).__module__).rpartition(".")[2]


def subset(classes: int | None) -> str | None:
    """timm's name of the ImageNet that has so many classes."""
    from timm.data import infer_imagenet_subset

    found = infer_imagenet_subset({"num_classes": classes})
    return str(found) if found else None


def task_of(classes: int | None) -> str:
    """What weights of so many classes are for: 0, and the widths of CLIP's vectors, are no classes."""
    is_classifier = classes is None or classes in OTHER_CLASSES or subset(classes) is not None
    return "classification" if is_classifier else "embedding"


def labels(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """One a class, of a configuration of timm's; None where timm does not know them."""
    from timm.data import ImageNetInfo

    if names := config.get("label_names"):
        told = config.get("label_descriptions") or {}
        return tuple(str(told.get(name, name)) for name in names)
    named = subset(config.get("num_classes"))
    return tuple(ImageNetInfo(named).label_descriptions()) if named else None


def _of_hub(name: str) -> str:
    """What to say of a name that timm's own `create_model` would take from the hub."""
    _, _, repository = name.partition(":")
    if repository.startswith(PREFIX):
        return f"{name} is written `network: {repository}` here"
    return f"{name} is none of timm's own: name its architecture, as {PREFIX}NAME, and a file of weights by `weights:`"


def _unknown(name: str) -> str:
    """What to say of a name that timm does not have."""
    import timm

    architecture, tag = split(name)
    if now := _renamed(architecture):
        return f"timm calls {architecture} {now} now; write `network: {PREFIX}{now}`"
    if tag and timm.is_model(architecture):
        return f"timm has no weights {tag!r} of {architecture}; {_tags_told(architecture)}"
    close = difflib.get_close_matches(architecture.lower(), timm.list_models(), n=3)
    hint = f"did you mean {' or '.join(PREFIX + found for found in close)}? " if close else ""
    return (
        f"timm {timm.__version__} has no network {architecture!r}; {hint}`build-repo networks '{PREFIX}resnet*'` lists "
        "those that fit such a pattern"
    )


def _tags_told(architecture: str) -> str:
    known = tags(architecture)
    if not known:
        return "it has none at all: leave the tag out, and name a file or random by `weights:`"
    more = f" and {len(known) - MOST_TAGS} more" if len(known) > MOST_TAGS else ""
    return f"it has {', '.join(known[:MOST_TAGS])}{more}"


def unknown_tag(architecture: str, tag: str, ways_out: str) -> str:
    """What to say of a tag that `weights:` names."""
    return f"{PREFIX}{architecture} has no weights named {tag!r}; {_tags_told(architecture)}; {ways_out}"


def without_weights(architecture: str, ways_out: str, known: Sequence[str]) -> str:
    """What to say where timm publishes none by default."""
    others = f" (timm has {', '.join(known[:MOST_TAGS])})" if known else ""
    return f"timm has no weights of {architecture} by default{others}; {ways_out}"
