"""Networks that come as TorchScript, which only what traces can take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.errors import ExportError

if TYPE_CHECKING:
    from torch import nn


def refuse_scripted(module: nn.Module) -> None:
    """Raise ExportError for what torch.export cannot read: it follows Python's code, and there is none."""
    import torch

    if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        raise ExportError(
            "the network, or a part of it, is TorchScript, which torch.export cannot read; `format: torchscript` and "
            "`format: openvino` can"
        )
