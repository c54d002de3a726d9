"""TorchScript, traced and frozen: Triton's `pytorch` backend. int8 is PyTorch's own fbgemm quantisation."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.errors import ExportError
from builder.exporters import operators
from builder.exporters.half import HALF_PRECISIONS, in_precision
from builder.exporters.memory import weights_of
from builder.exporters.quiet import quiet
from builder.exporters.room import require_room
from builder.exporters.torch_run import as_predict, prepared_device, set_mantissa
from builder.exporters.torchscript_file import make_reproducible
from builder.machine.hardware import cpu_computes
from builder.types import ExportRequest, Predict, Target
from builder.util.reasons import place_of, reason

if TYPE_CHECKING:
    import torch
    from torch import nn

FILENAME = "model.pt"
BACKEND = "pytorch"
PLATFORM = ""
PER_GPU = False
PRECISIONS: dict[str, tuple[str, ...]] = {"cpu": ("fp32", "fp16", "bf16", "int8"), "gpu": ("fp32", "fp16", "bf16")}
VERSIONED: tuple[str, ...] = ("torch",)

# Its recipe keeps weights to 7 bits, so that sums do not overflow on CPUs without VNNI either.
QUANTIZED_ENGINE = "fbgemm"
LARGE_BYTES = 64 << 20


def refusal(target: Target) -> str:
    if target.device == "cpu" and target.precision in HALF_PRECISIONS and not cpu_computes(target.precision):
        return f"this CPU has no {target.precision} arithmetic, and emulating it is far slower than fp32"
    return ""


def export(request: ExportRequest) -> dict[str, str]:
    import torch

    set_mantissa(request.target)
    if request.target.precision == "int8":
        assert request.calibration is not None  # the plan holds it for int8
        # Its symbolic tracing refuses every branch on content itself.
        quantized = _quantized(request.module, request.example, request.calibration)
        with quiet(), torch.no_grad():
            traced = _traced(quantized, request.example)
    else:
        traced = trace(in_precision(request.module, request.target.precision), request.example)
    with quiet():
        frozen = torch.jit.freeze(traced)
        libraries = operators.required(torch.jit.export_opnames(frozen))  # type: ignore[no-untyped-call]
    _write(frozen, request)
    _release_weights(frozen)
    make_reproducible(request.path)
    return libraries | ({"quantized_engine": QUANTIZED_ENGINE} if request.target.precision == "int8" else {})


def _write(frozen: torch.jit.ScriptModule, request: ExportRequest) -> None:
    """PyTorch's writer ends the process on a full disk: small ones go through memory, others take room first."""
    size = sum(tensor.nbytes for tensor in weights_of(request.module))
    if size < LARGE_BYTES:
        request.path.write_bytes(frozen.save_to_buffer())
    else:
        require_room(request.path, size)
        frozen.save(str(request.path))


def trace(module: nn.Module, example: torch.Tensor) -> Any:
    """A TorchScript module for any batch size. Raises ExportError where it would remember one image."""
    import torch

    with warnings.catch_warnings(record=True) as remarks, torch.no_grad():
        # TorchScript is deprecated, not removed, and Triton's backend reads nothing newer everywhere.
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        traced = _traced(module, example)
        if remarks:
            _refuse_branches_on_content(module, example)
    return traced


def _traced(module: nn.Module, example: torch.Tensor) -> Any:
    import torch

    # The builder compares the written file with the module; the tracer's own check is weaker.
    return torch.jit.trace(module, example, check_trace=False)  # type: ignore[no-untyped-call]


def _refuse_branches_on_content(module: nn.Module, example: torch.Tensor) -> None:
    """Raise ExportError where a trace would remember the branch that the example image took.

    The tracer remarks on every tensor that becomes a Python value, harmless ones from shapes
    included. Tensors without content tell the two apart: only the content's cannot be had.
    """
    from torch._subclasses import fake_tensor
    from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode, ShapeEnv

    # With it, how many a mask chooses is a number unknown, which a trace follows, too.
    shapes = ShapeEnv(allow_scalar_outputs=False, allow_dynamic_output_shape_ops=True)
    mode = fake_tensor.FakeTensorMode(allow_non_fake_inputs=True, shape_env=shapes)
    try:
        with (
            mode,
            suppress(
                GuardOnDataDependentSymNode,
                fake_tensor.DynamicOutputShapeException,
                fake_tensor.UnsupportedOperatorException,
            ),
        ):  # what they say nothing of is for the verification to find
            module(mode.from_tensor(example, static_shapes=True))
    except fake_tensor.DataDependentOutputException as error:
        raise ExportError(
            "forward() makes a Python value of the image's content, and a trace would remember that of one image; "
            f"compute with tensors instead, such as torch.where ({place_of(error)})"
        ) from None


def _quantized(module: nn.Module, example: torch.Tensor, images: Iterable[torch.Tensor]) -> nn.Module:
    """Post-training static quantisation, weights per channel; the softmax stays in float32."""
    import torch
    from torch.ao.quantization import get_default_qconfig_mapping, quantize_fx

    mapping = get_default_qconfig_mapping(QUANTIZED_ENGINE).set_module_name("activation", None)
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = QUANTIZED_ENGINE
    try:
        with quiet(), torch.no_grad():
            prepared = _prepared(module, mapping, example)
            for image in images:
                prepared(image)
            return quantize_fx.convert_fx(prepared)
    finally:
        torch.backends.quantized.engine = before


def _prepared(module: nn.Module, mapping: Any, example: torch.Tensor) -> Any:
    from torch.ao.quantization import quantize_fx

    try:
        return quantize_fx.prepare_fx(module, mapping, (example,))
    except Exception as error:  # symbolic tracing meets whatever a user's forward() does
        raise ExportError(
            f"PyTorch's quantisation cannot follow forward(): {reason(error)}; `format: openvino` quantises the "
            "operations that it runs, whatever the code that chose them"
        ) from error


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


def load(path: Path, target: Target) -> Predict:
    import torch

    device = prepared_device(target)
    with quiet():
        module = torch.jit.load(str(path), map_location=device)  # type: ignore[no-untyped-call]
    return as_predict(module, device)


def parameters(target: Target) -> dict[str, str]:
    return {"INTRA_OP_THREAD_COUNT": str(target.threads), "INTER_OP_THREAD_COUNT": "1"}
