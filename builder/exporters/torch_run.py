"""Running what PyTorch itself runs: modules, TorchScript and AOTInductor packages."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from builder.exporters.arguments import in_order, named
from builder.triton.signature import Signature
from builder.types import Predict, Target, Tensors

if TYPE_CHECKING:
    import torch


def prepared_device(target: Target) -> str:
    """Where the target is run, with PyTorch's settings made for it. Without a GPU, GPU targets run on the CPU."""
    import torch

    torch.set_num_threads(target.threads)
    set_mantissa(target)
    return "cuda" if target.device == "gpu" and torch.cuda.is_available() else "cpu"


def set_mantissa(target: Target) -> None:
    """Convolutions on GPUs would be computed with 10 bits of mantissa, which is not fp32; traces remember it."""
    import torch

    torch.backends.cudnn.allow_tf32 = target.precision != "fp32"


def as_predict(run: Callable[..., Any], device: str, signature: Signature) -> Predict:
    """Named tensors to the device, in the signature's order, and answers back from it."""
    import torch

    def predict(tensors: Tensors) -> dict[str, torch.Tensor]:
        with torch.inference_mode():
            result = run(*(tensor.to(device) for tensor in in_order(signature, tensors)))
            return {name: output.cpu() for name, output in named(signature, result).items()}

    return predict
