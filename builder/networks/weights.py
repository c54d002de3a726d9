"""State dicts: found, checked, read and fitted into modules. Shared by the families."""

from __future__ import annotations

import hashlib
import pickle
import re
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError

from builder.errors import NetworkError, WeightsError
from builder.networks import archives, making
from builder.types import Network, NetworkRequest, WeightsSource
from builder.usercode import border

if TYPE_CHECKING:
    import torch
    from torch import nn

    from builder.recipe import PreprocessRecipe

WAYS_OUT = "name a local state-dict file with `weights: PATH`, or build with `--weights random`"
# The keys under which training loops like to nest the state dict.
NESTING_KEYS = ("state_dict", "model_state_dict", "model")
SHOWN_KEYS = 3


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(url: str) -> Path:
    """The file behind torchvision's `url`, from torch.hub's cache or the network; checked either way."""
    import torch

    name = url.rsplit("/", 1)[-1]
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), progress=sys.stderr.isatty())
        except (URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            raise WeightsError(f"cannot download {url}: {reason}. Put the file at {path}, or {WAYS_OUT}") from None
    check_digest(path, url)
    return path


def check_digest(path: Path, url: str) -> None:
    """torchvision writes the start of a file's SHA-256 into its name."""
    expected = url_digest(url)
    actual = file_sha256(path)
    if expected and not actual.startswith(expected):
        raise WeightsError(
            f"{path} has the wrong checksum: SHA-256 starts with {actual[: len(expected)]}, {url} promises "
            f"{expected}. Delete the file to download it again, or {WAYS_OUT}"
        )


def url_digest(url: str) -> str | None:
    match = re.search(r"-([0-9a-f]{8,})\.\w+$", url)
    return match[1] if match else None


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a .pt, .pth or .safetensors file, mapped into memory where the file allows."""
    if not path.is_file():
        raise WeightsError(f"the weights file {path} does not exist; correct `weights:`, or {WAYS_OUT}")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    archives.refuse_networks(path)
    import torch

    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError:
        raise WeightsError(
            f"{path} holds more than tensors (a pickled module?), which could run code when loaded, or is "
            "damaged; save the state dict alone: torch.save(model.state_dict(), PATH)"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise WeightsError(f"{path} cannot be read as a PyTorch file: {_first_line(error)}") from None
    return _tensors(loaded, path)


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be read as a safetensors file: {_first_line(error)}") from None


def _tensors(loaded: Any, path: Path) -> dict[str, torch.Tensor]:
    import torch

    for key in NESTING_KEYS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise WeightsError(f"{path} is not a state dict; save one: torch.save(model.state_dict(), PATH)")
    state = dict(loaded)
    prefix = "module."  # what DistributedDataParallel leaves
    if state and all(key.startswith(prefix) for key in state):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def make_with_state(make: Callable[[], nn.Module], state: Mapping[str, torch.Tensor], origin: str) -> nn.Module:
    """A module from `make` that holds `state`; `origin` names it in errors.

    Made on the meta device and given the file's own tensors, so that neither initialisation nor a
    second copy of the weights costs anything. Modules that cannot be made so are made as usual.
    """

    def fit(module: nn.Module) -> None:
        _fit(module, state, origin)

    return making.frozen(making.filled(make, fit))


def _fit(module: nn.Module, state: Mapping[str, torch.Tensor], origin: str) -> None:
    wanted = module.state_dict()
    missing = [key for key in wanted if key not in state]
    unexpected = [key for key in state if key not in wanted]
    wrong = [
        f"{key} is {list(state[key].shape)} in the file and {list(wanted[key].shape)} in the network"
        for key in wanted
        if key in state and not making.takes(wanted[key], state[key])
    ]
    problems = [f"missing {key}" for key in missing] + [f"unknown {key}" for key in unexpected] + wrong
    if problems:
        more = f" and {len(problems) - SHOWN_KEYS} more" if len(problems) > SHOWN_KEYS else ""
        raise WeightsError(
            f"{origin} does not fit the network: {'; '.join(problems[:SHOWN_KEYS])}{more}. Correct `network:` "
            "or its `arguments:` (such as num_classes), or name another file"
        )
    # Half-precision checkpoints come back to the network's own type.
    cast = {key: value.to(wanted[key].dtype) for key, value in state.items()}
    module.load_state_dict(cast, assign=True)


def make_random(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A freshly initialised module; the same one for the same seed. Leaves the global generator alone."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return making.frozen(make())


def make_network(make: Callable[[], nn.Module], request: NetworkRequest, recipe: PreprocessRecipe | None) -> Network:
    """The `make` of families whose weights are random or a file."""
    source = request.weights
    guarded = guard_arguments(make, request)
    if source.kind == "random":
        module, trained = make_random(guarded, source.seed), False
    elif source.kind == "file":
        module, trained = make_with_state(guarded, read_state(_path(source)), str(source.path)), True
    else:
        raise WeightsError(
            f"{request.name} has no weights named {source.name!r}; a file's name ends in .pt, .pth or .safetensors; "
            f"{WAYS_OUT}"
        )
    return Network(module.eval(), recipe, None, trained, provenance(request))


def guard_arguments(make: Callable[[], nn.Module], request: NetworkRequest) -> Callable[[], nn.Module]:
    def guarded() -> nn.Module:
        with border(NetworkError, f"{request.name} cannot be made with arguments {request.arguments}"):
            return make()

    return guarded


def provenance(request: NetworkRequest, path: Path | None = None) -> dict[str, str]:
    """What the published config records of the network and its weights."""
    source = request.weights
    facts = {"network": request.name, "weights": source.name}
    if source.kind == "random":
        facts["weights"] = f"random, seed {source.seed}"
    if request.arguments:
        facts["network_arguments"] = str(dict(sorted(request.arguments.items())))
    if file := path or source.path:
        facts["weights_sha256"] = file_sha256(file)
    return facts


def _path(source: WeightsSource) -> Path:
    assert source.path is not None  # parse_weights gives every "file" source one
    return source.path


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
