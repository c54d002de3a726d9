"""Artifacts of classifiers, run in this process."""

from __future__ import annotations

from pathlib import Path

import torch

from builder.exporters import EXPORTERS
from builder.triton.signature import ANY_SIZE, NETWORK_INPUT, NETWORK_OUTPUT, Signature, TensorSpec
from builder.types import Target


def probabilities_of(format_name: str, artifact: Path, target: Target, images: torch.Tensor) -> torch.Tensor:
    """float32 [B, classes] for float32 [B, C, H, W]."""
    given = TensorSpec(NETWORK_INPUT, "FP32", tuple(images.shape[1:]))
    signature = Signature((given,), (TensorSpec(NETWORK_OUTPUT, "FP32", (ANY_SIZE,)),))
    return EXPORTERS[format_name].load(artifact, target, signature)({NETWORK_INPUT: images})[NETWORK_OUTPUT]
