"""The user's own networks: package.module:callable, or path/file.py:callable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from builder.errors import NetworkError
from builder.networks import making, weights
from builder.types import Network, NetworkFacts, NetworkRequest
from builder.util.usercode import border, call, is_callable_name, load_callable

DEFAULT_WEIGHTS: str | None = None


def matches(name: str) -> bool:
    return is_callable_name(name)


def names() -> Sequence[str]:
    return ()


def facts(name: str) -> NetworkFacts:
    raise NetworkError(f"nothing is published of {name}")


def arguments(name: str) -> Sequence[str] | None:
    del name  # one's own code runs in builds alone
    return None


def make(request: NetworkRequest) -> Network:
    function = load_callable(request.name, request.base, NetworkError)

    def called() -> Any:
        return _module(call(function, request.name, NetworkError, **request.arguments), request.name)

    with border(
        NetworkError, f"{request.name} cannot be made"
    ):  # its class may have methods of its own, such as train()
        if request.weights.kind == "included":
            module = weights.make_random(called, request.weights.seed)  # whatever of it is not included is drawn
            return Network(making.evaluated(module), None, None, True, weights.provenance(request))
        return weights.make_network(called, request, None)


def _module(module: Any, name: str) -> Any:
    from torch import nn

    if not isinstance(module, nn.Module):
        raise NetworkError(f"{name} gave a {type(module).__name__}, not a torch.nn.Module")
    return module
