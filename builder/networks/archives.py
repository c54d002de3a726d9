"""Files that PyTorch writes and that are no state dicts: told apart before they are read as one."""

from __future__ import annotations

import zipfile
from pathlib import Path

from builder.errors import WeightsError

SCRIPTED = "a TorchScript file"
EXPORTED = "an exported program (.pt2)"
LOADERS = {SCRIPTED: "torch.jit.load({path!r})", EXPORTED: "torch.export.load({path!r}).module()"}


def refuse_networks(path: Path) -> None:
    """Raise WeightsError for a file that holds a whole network, with two ways to build it."""
    kind = _kind(path)
    if kind:
        loaded = LOADERS[kind].format(path=str(path))
        raise WeightsError(
            f"{path} is {kind}: a whole network, not a state dict. Name a callable of your own as `network:` that "
            f"returns {loaded}, with `weights: included`; or save its weights for the network that you name here: "
            f"torch.save({loaded}.state_dict(), 'weights.pt')"
        )


def _kind(path: Path) -> str:
    if not zipfile.is_zipfile(path):
        return ""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.partition("/")[2] for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError):  # whoever reads it will say so
        return ""
    if any(name.startswith("code/") for name in names):
        return SCRIPTED
    exported = ("models/", "data/aotinductor/", "serialized_exported_program")
    return EXPORTED if any(name.startswith(exported) for name in names) else ""
