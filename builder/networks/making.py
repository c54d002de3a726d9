"""Modules made without their numbers where that goes, and made whole where it does not."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from builder.errors import NetworkError, WeightsError
from builder.util.usercode import border

if TYPE_CHECKING:
    import torch
    from torch import nn

Made = TypeVar("Made")


def filled(make: Callable[[], nn.Module], fit: Callable[[nn.Module], None]) -> nn.Module:
    """A module from `make` that `fit` gives its weights.

    Made on the meta device first, so that neither initialisation nor a second copy of the weights costs anything. A
    constructor that looks at numbers cannot be run there, and one that keeps tensors besides its parameters, wherever
    it does, leaves some without any: such modules are made as usual.
    """
    before = {id(tensor) for tensor in _hollow_tensors()}
    module = hollow(make)
    if module is not None and _takes_weights(module, fit) and not _is_left_hollow(before):
        return module
    module = make()
    fit(module)
    return module


def _takes_weights(module: nn.Module, fit: Callable[[nn.Module], None]) -> bool:
    """One whose own loading needs numbers does not, while it has none. What fits neither is told by the next."""
    try:
        fit(module)
    except (RuntimeError, NotImplementedError, WeightsError):
        return False
    return True


def hollow(make: Callable[[], Made]) -> Made | None:
    """What `make` gives on the meta device; None where it cannot be made there."""
    import torch

    try:
        with torch.device("meta"), border(NetworkError, "on the meta device"):
            return make()
    except NetworkError:
        return None  # made as usual it tells what is wrong, if anything is


def _is_left_hollow(before: set[int]) -> bool:
    """Whether tensors without numbers are left, beside those of `before`."""
    if all(id(tensor) in before for tensor in _hollow_tensors()):
        return False
    gc.collect()  # what the weights took the place of may wait for it
    return any(id(tensor) not in before for tensor in _hollow_tensors())


def _hollow_tensors() -> list[torch.Tensor]:
    """All that live: attributes, lists, closures and caches may hold them."""
    import torch

    return [found for found in gc.get_objects() if issubclass(type(found), torch.Tensor) and found.is_meta]


def frozen(module: nn.Module) -> nn.Module:
    """It is not to learn. Parameters that have no shape yet cannot be told; `settled` does."""
    if not is_lazy(module):
        for parameter in module.parameters():  # TorchScript has no requires_grad_() for the whole
            parameter.requires_grad_(False)
    return module


def evaluated(module: nn.Module) -> nn.Module:
    """In evaluation mode. What torch.export gives has no modes, and refuses to be put in one."""
    try:
        return module.eval()
    except NotImplementedError:
        module.train = lambda _=True: module  # type: ignore[method-assign, assignment]
        return module


def is_lazy(module: nn.Module) -> bool:
    """Whether the first input is to tell what it is made of (nn.LazyLinear and the like)."""
    from torch.nn.modules.lazy import LazyModuleMixin

    return any(isinstance(part, LazyModuleMixin) for part in module.modules())


def takes(parameter: torch.Tensor, value: torch.Tensor) -> bool:
    """Whether a parameter can have the value; one that has no shape yet takes any."""
    from torch.nn.parameter import is_lazy as waits

    return bool(waits(parameter)) or parameter.shape == value.shape


def settled(module: nn.Module, shape: tuple[int, ...], seed: int, name: str) -> nn.Module:
    """The module after one float32 input of `shape`, if it waits for one (lazy modules). Raises NetworkError.

    What has no weights yet is drawn, the same for the same seed.
    """
    import torch

    if not is_lazy(module):
        return module
    size = "x".join(map(str, shape))
    device = next(iter(module.parameters())).device
    with border(NetworkError, f"{name} has lazy modules, and no {size} input makes them"), torch.no_grad():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            evaluated(module)(torch.rand(1, *shape, device=device))
        return frozen(module)
