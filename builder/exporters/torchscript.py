"""TorchScript, traced and frozen: Triton's `pytorch` backend. int8 is PyTorch's own fbgemm quantisation."""

from __future__ import annotations

import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from builder.errors import ExportError
from builder.exporters import operators
from builder.exporters.arguments import in_order, reads_numbers
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
    from pydantic import BaseModel
    from torch import nn

    from builder.triton.signature import Signature

FILENAME = "model.pt"
BACKEND = "pytorch"
PLATFORM = ""
PER_GPU = False
PRECISIONS: dict[str, tuple[str, ...]] = {"cpu": ("fp32", "fp16", "bf16", "int8"), "gpu": ("fp32", "fp16", "bf16")}
NAMES_TENSORS = False
OPTIONS: type[BaseModel] | None = None
VERSIONED: tuple[str, ...] = ("torch",)

# Its recipe keeps weights to 7 bits, so that sums do not overflow on CPUs without VNNI either.
QUANTIZED_ENGINE = "fbgemm"
LARGE_BYTES = 64 << 20


def objection(options: BaseModel | None, max_batch_size: int) -> tuple[str, str] | None:
    return None


def refusal(target: Target) -> str:
    if target.device == "cpu" and target.precision in HALF_PRECISIONS and not cpu_computes(target.precision):
        return f"this CPU has no {target.precision} arithmetic, and emulating it is far slower than fp32"
    return ""


def export(request: ExportRequest) -> dict[str, str]:
    import torch

    set_mantissa(request.target)
    size, frozen = _frozen(request)
    with quiet():
        libraries = operators.required(torch.jit.export_opnames(frozen))  # type: ignore[no-untyped-call]
    _write(frozen, size, request.path)
    _release_weights(frozen)
    make_reproducible(request.path)
    return libraries | ({"quantized_engine": QUANTIZED_ENGINE} if request.target.precision == "int8" else {})


def _frozen(request: ExportRequest) -> tuple[int, torch.jit.ScriptModule]:
    """The graph, and no less than the bytes of its weights."""
    import torch

    examples = in_order(request.signature, request.examples)
    if request.target.precision == "int8":
        size = _nbytes(request.module)  # packed, they are no module's any more
        _quantize(request)
        with quiet(), torch.no_grad():
            return size, torch.jit.freeze(_traced(request.module, examples))
    module = in_precision(request.module, request.target.precision)
    traced = trace(module, examples)
    with quiet():
        return _nbytes(module), torch.jit.freeze(traced)


def _nbytes(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in weights_of(module))


def _write(frozen: torch.jit.ScriptModule, size: int, path: Path) -> None:
    """PyTorch's writer ends the process on a full disk: small ones go through memory, others take room first."""
    if size < LARGE_BYTES:
        path.write_bytes(frozen.save_to_buffer())
    else:
        require_room(path, size)
        frozen.save(str(path))


def trace(module: nn.Module, examples: tuple[torch.Tensor, ...]) -> Any:
    """A TorchScript module for any batch size. Raises ExportError where it would remember what one sample holds."""
    import torch

    with warnings.catch_warnings(record=True) as remarks, torch.no_grad():
        # TorchScript is deprecated, not removed, and Triton's backend reads nothing newer everywhere.
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        traced = _traced(module, examples)
        if remarks:
            _refuse_branches_on_content(module, examples)
    return traced


def _traced(module: nn.Module, examples: tuple[torch.Tensor, ...]) -> Any:
    import torch

    # The builder compares the written file with the module; the tracer's own check is weaker.
    return torch.jit.trace(module, examples, check_trace=False)  # type: ignore[no-untyped-call]


def _refuse_branches_on_content(module: nn.Module, examples: tuple[torch.Tensor, ...]) -> None:
    """Raise ExportError where a trace would remember the branch that the examples took.

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
            module(*(mode.from_tensor(example, static_shapes=True) for example in examples))
    except fake_tensor.DataDependentOutputException as error:
        raise ExportError(
            "forward() makes a Python value of its input's content, and a trace would remember that of one sample; "
            f"compute with tensors instead, such as torch.where ({place_of(error)})"
        ) from None


def _quantize(request: ExportRequest) -> None:
    """Post-training static quantisation, weights per channel, of the head's network alone.

    Its symbolic tracing refuses every branch on content itself.
    """
    import torch
    from torch.ao.quantization import quantize_fx

    assert request.calibration is not None  # the plan holds it for int8
    network = cast("nn.Module", request.module.network)
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = QUANTIZED_ENGINE
    try:
        with quiet(), torch.no_grad():
            prepared = _prepared(network, _mapping(request.signature), in_order(request.signature, request.examples))
            for batch in request.calibration:
                prepared(*in_order(request.signature, batch))
            request.module.network = quantize_fx.convert_fx(prepared)
    finally:
        torch.backends.quantized.engine = before


def _mapping(signature: Signature) -> Any:
    """What is quantised: all that can be; what has weights alone, where whole numbers come in, which have no ranges."""
    from torch import nn
    from torch.ao.quantization import QConfigMapping, get_default_qconfig, get_default_qconfig_mapping

    if not reads_numbers(signature):
        return get_default_qconfig_mapping(QUANTIZED_ENGINE)
    qconfig = get_default_qconfig(QUANTIZED_ENGINE)  # type: ignore[no-untyped-call]
    mapping = QConfigMapping()
    functions: list[Any] = [nn.functional.linear, nn.functional.conv1d, nn.functional.conv2d, nn.functional.conv3d]
    for kind in (*functions, nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d):
        mapping.set_object_type(kind, qconfig)
    return mapping


def _prepared(network: nn.Module, mapping: Any, examples: tuple[torch.Tensor, ...]) -> Any:
    from torch.ao.quantization import quantize_fx

    try:
        return quantize_fx.prepare_fx(network, mapping, examples)
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


def load(path: Path, target: Target, signature: Signature) -> Predict:
    import torch

    device = prepared_device(target)
    with quiet():
        module = torch.jit.load(str(path), map_location=device)  # type: ignore[no-untyped-call]
    return as_predict(module, device, signature)


def parameters(target: Target) -> dict[str, str]:
    return {"INTRA_OP_THREAD_COUNT": str(target.threads), "INTER_OP_THREAD_COUNT": "1"}
