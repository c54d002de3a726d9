"""Weights: found, checked and made into modules. Shared by the families."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError

from builder.errors import NetworkError, WeightsError
from builder.networks import making, state_files
from builder.networks.fitting import fit
from builder.networks.state_files import WAYS_OUT, Saved
from builder.types import Network, NetworkRequest, WeightsSource
from builder.util.hashing import sha256
from builder.util.usercode import border

if TYPE_CHECKING:
    from torch import nn

    from builder.data.recipe import PreprocessRecipe

READ_AS = "weights_read"
"""Fact of the config: what was done to understand the file, where that was not all plain."""


LICENCE = "weights_license"
"""Fact of the config: that of the weights, as those who publish them say it."""
# Words in names of licences under which nothing may be earned.
NON_COMMERCIAL = ("-nc", "noncommercial", "non-commercial", "apple-amlr")


def notes(provenance: Mapping[str, str]) -> tuple[str, ...]:
    """What one should know of weights, of what is recorded of them."""
    found = [f"weights: {provenance[READ_AS]}"] if READ_AS in provenance else []
    licence = provenance.get(LICENCE, "")
    if any(word in licence.lower() for word in NON_COMMERCIAL):
        found.append(f"weights: their licence, {licence}, does not allow commercial use")
    return tuple(found)


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
    require_digest(path, url)
    return path


def require_digest(path: Path, url: str) -> None:
    """torchvision writes the start of a file's SHA-256 into its name."""
    expected = url_digest(url)
    actual = sha256(path)
    if expected and not actual.startswith(expected):
        raise WeightsError(
            f"{path} has the wrong checksum: SHA-256 starts with {actual[: len(expected)]}, {url} promises "
            f"{expected}. Delete the file to download it again, or {WAYS_OUT}"
        )


def url_digest(url: str) -> str | None:
    match = re.search(r"-([0-9a-f]{8,})\.\w+$", url)
    return match[1] if match else None


def read_state(path: Path) -> dict[str, Any]:
    """The state dict of a file, as it is there. Raises WeightsError."""
    return state_files.read(path).tensors


def make_with_state(
    make: Callable[[], nn.Module], saved: Saved, origin: str, unused: Sequence[str] = ()
) -> tuple[nn.Module, dict[str, str]]:
    """A module from `make` that holds `saved`, and what the config is to record of that; `origin` names it in errors.

    Made on the meta device and given the file's own tensors, so that neither initialisation nor a
    second copy of the weights costs anything. Modules that cannot be made so are made as usual, as are
    those whose own loading needs numbers.
    """
    notes: tuple[str, ...] = ()

    def fill(module: nn.Module) -> None:
        nonlocal notes
        notes = fit(module, saved, origin, unused)

    module = making.frozen(making.filled(make, fill))
    notes = (*saved.notes, *notes)
    return module, {READ_AS: "; ".join(notes)} if notes else {}


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
        module = make_random(guarded, source.seed)
        return Network(making.evaluated(module), recipe, None, False, provenance(request))
    if source.kind == "file":
        module, facts = make_with_state(guarded, state_files.read(_path(source)), str(source.path))
        return Network(making.evaluated(module), recipe, None, True, provenance(request) | facts)
    raise WeightsError(
        f"{request.name} has no weights named {source.name!r}; a file without a suffix is written ./{source.name}; "
        f"{WAYS_OUT}"
    )


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
        facts["weights_sha256"] = sha256(file)
    return facts


def _path(source: WeightsSource) -> Path:
    assert source.path is not None  # parse_weights gives every "file" source one
    return source.path
