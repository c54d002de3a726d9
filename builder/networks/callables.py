"""The user's own networks: package.module:callable, or path/file.py:callable."""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from builder.errors import NetworkError
from builder.networks import weights
from builder.reasons import reason
from builder.types import Network, NetworkFacts, NetworkRequest

DEFAULT_WEIGHTS: str | None = None


def matches(name: str) -> bool:
    return ":" in name


def names() -> Sequence[str]:
    return ()


def facts(name: str) -> NetworkFacts:
    raise NetworkError(f"nothing is published of {name}")


def make(request: NetworkRequest) -> Network:
    function = _load(request)

    def call() -> Any:
        return _called(function, request)

    if request.weights.kind == "included":
        module = call().requires_grad_(False)
        return Network(module.eval(), None, None, True, weights.provenance(request))
    return weights.make_network(call, request, None)


def _load(request: NetworkRequest) -> Callable[..., Any]:
    place, _, attribute = request.name.rpartition(":")
    module = _import_file(request.base / place) if place.endswith(".py") else _import_module(place, request.base)
    function = getattr(module, attribute, None)
    if not callable(function):
        close = difflib.get_close_matches(attribute, [name for name in vars(module) if callable(vars(module)[name])], 1)
        hint = f"did you mean {close[0]!r}?" if close else "name one: path/file.py:callable"
        raise NetworkError(f"{place} has no callable {attribute!r}; {hint}")
    return function  # type: ignore[no-any-return]


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise NetworkError(f"{path} does not exist; `network: path/file.py:callable` is relative to the manifest")
    # Under its own name, so that a second file called model.py does not get the first one's code.
    name = f"build_repo_network_{abs(hash(path.resolve()))}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec  # always so for a .py file
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling look modules up here
    _run(functools.partial(spec.loader.exec_module, module), path)
    return module


def _import_module(name: str, base: Path) -> ModuleType:
    if str(base.resolve()) not in sys.path:
        sys.path.append(str(base.resolve()))
    module: ModuleType = _run(functools.partial(importlib.import_module, name), name)
    return module


def _run(load: Callable[[], Any], what: Path | str) -> Any:
    try:
        return load()
    except Exception as error:  # the user's file may raise anything
        raise NetworkError(f"{what} cannot be imported: {type(error).__name__}: {reason(error)}") from error


def _called(function: Callable[..., Any], request: NetworkRequest) -> Any:
    from torch import nn

    try:
        module = function(**request.arguments)
    except Exception as error:  # the user's function may raise anything
        raise NetworkError(
            f"{request.name} failed with arguments {request.arguments}: {type(error).__name__}: {reason(error)}"
        ) from error
    if not isinstance(module, nn.Module):
        raise NetworkError(f"{request.name} gave a {type(module).__name__}, not a torch.nn.Module")
    return module
