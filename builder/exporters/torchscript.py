"""TorchScript, traced and frozen: Triton's `pytorch` backend."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import ExportError
from builder.reasons import place_of
from builder.types import Predict

if TYPE_CHECKING:
    import torch
    from torch import nn

FILENAME = "model.pt"
BACKEND = "pytorch"
PRECISIONS: tuple[str, ...] = ("fp32",)
VERSIONED: tuple[str, ...] = ("torch",)


def export(module: nn.Module, example: torch.Tensor, path: Path) -> None:
    import torch

    with warnings.catch_warnings(record=True) as remarks, torch.no_grad():
        # TorchScript is deprecated, not removed, and Triton's backend reads nothing newer everywhere.
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        # The builder compares the written file with the module; the tracer's own check is weaker.
        traced = torch.jit.trace(module, example, check_trace=False)  # type: ignore[no-untyped-call]
        if remarks:
            _refuse_branches_on_content(module, example)
        frozen = torch.jit.freeze(traced)
        frozen.save(str(path))
        _release_weights(frozen)


def _refuse_branches_on_content(module: nn.Module, example: torch.Tensor) -> None:
    """Raise ExportError where a trace would remember the branch that the example image took.

    The tracer remarks on every tensor that becomes a Python value, harmless ones from shapes
    included. Tensors without content tell the two apart: only the content's cannot be had.
    """
    from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    try:
        with mode:
            module(mode.from_tensor(example))
    except DataDependentOutputException as error:
        raise ExportError(
            "forward() makes a Python value of the image's content, and a trace would remember that of one image; "
            f"compute with tensors instead, such as torch.where ({place_of(error)})"
        ) from None


def _release_weights(frozen: torch.jit.ScriptModule) -> None:
    """Empty the constants of a graph that is written and done with.

    PyTorch keeps the code of every module it ever compiled, and a frozen module's weights are part
    of its code: without this each build would hold its network in memory until the process ends.
    """
    import torch

    nothing = torch.empty(0)
    for node in frozen.graph.findAllNodes("prim::Constant"):  # type: ignore[attr-defined]
        if node.hasAttribute("value") and node.kindOf("value") == "t":
            node.t_("value", nothing)


def load(path: Path, threads: int) -> Predict:
    import torch

    torch.set_num_threads(threads)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]

    def predict(batch: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return module(batch)  # type: ignore[no-any-return]

    return predict


def thread_parameters(threads: int) -> dict[str, str]:
    return {"INTRA_OP_THREAD_COUNT": str(threads), "INTER_OP_THREAD_COUNT": "1"}
