"""Where timm's own weights come from, and where they lie once they were fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from builder.util.hashing import sha256

# In the order in which timm looks for them on the hub.
HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def described(config: Any) -> str:
    """Of a PretrainedCfg: as timm's loader goes by it."""
    if config.file:
        return f"the file {config.file}"
    if config.hf_hub_id:
        return f"the hub's {config.hf_hub_id}"
    return str(config.url)


def way_out(config: Any) -> str:
    """Where a file fetched on another machine is to be put."""
    import torch

    if config.hf_hub_id:
        return (
            "without a network, copy the hub's cache from a machine that has them (HF_HOME, by default "
            "~/.cache/huggingface)"
        )
    name = str(config.url).rpartition("/")[2]
    return f"put the file at {Path(torch.hub.get_dir()) / 'checkpoints' / name}"


def facts(config: Any, folder: str | None) -> dict[str, str]:
    """What is recorded of the file that timm has loaded: its SHA-256, and of the hub the commit."""
    path = _of_hub(config, folder) if config.hf_hub_id else _of_url(config, folder)
    if path is None or not path.is_file():
        return {}
    commit = {"weights_revision": path.parent.name} if config.hf_hub_id else {}
    return {"weights_sha256": sha256(path)} | commit


def _of_hub(config: Any, folder: str | None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    for name in (config.hf_hub_filename,) if config.hf_hub_filename else HUB_FILES:
        found = try_to_load_from_cache(config.hf_hub_id, name, cache_dir=folder)
        if isinstance(found, str):
            return Path(found)
    return None


def _of_url(config: Any, folder: str | None) -> Path | None:
    import torch

    if not config.url:
        return Path(config.file) if config.file else None
    place = Path(folder) if folder else Path(torch.hub.get_dir()) / "checkpoints"
    return place / str(config.url).rpartition("/")[2]
