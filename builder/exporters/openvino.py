"""OpenVINO's IR, converted from a trace: Triton's `openvino` backend. int8 is NNCF's static quantisation."""

from __future__ import annotations

import importlib
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.errors import ExportError
from builder.exporters import torchscript
from builder.exporters.arguments import in_order, reads_numbers, require_numpys
from builder.exporters.memory import page_out_file
from builder.exporters.quiet import quiet
from builder.machine.hardware import cpu_computes
from builder.types import Calibration, ExportRequest, Predict, Target, Tensors
from builder.util.reasons import reason

if TYPE_CHECKING:
    import torch
    from pydantic import BaseModel

    from builder.triton.signature import Signature

FILENAME = "model.xml"
BACKEND = "openvino"
PLATFORM = ""
PER_GPU = False
# fp16 is that of the weights, half the size; CPUs compute them in fp32. Its GPUs are Intel's alone.
PRECISIONS: dict[str, tuple[str, ...]] = {"cpu": ("fp32", "fp16", "bf16", "int8"), "gpu": ()}
NAMES_TENSORS = True
OPTIONS: type[BaseModel] | None = None
VERSIONED: tuple[str, ...] = ("torch", "openvino")

# Of what the CPU could do it takes bf16 unasked where there is AMX, and fp32 has to be asked for.
WEIGHTLESS = ("Add", "Subtract", "Multiply", "Divide", "Power", "Softmax", "MVN", "ReduceMean", "ReduceSum")
"""Of OpenVINO's operations, those that networks that read texts have without weights."""
INFERENCE_PRECISIONS = {"fp32": "f32", "fp16": "f32", "bf16": "bf16", "int8": "f32"}


def objection(options: BaseModel | None, max_batch_size: int) -> tuple[str, str] | None:
    return None


def refusal(target: Target) -> str:
    if target.precision == "bf16" and not cpu_computes("bf16"):
        return "this CPU has no bf16 arithmetic, so that OpenVINO would silently compute in fp32"
    return ""


def export(request: ExportRequest) -> dict[str, str]:
    require_numpys(request.signature)
    openvino = imported("openvino")
    examples = in_order(request.signature, request.examples)
    with quiet():
        traced = torchscript.trace(request.module, examples)
        model = openvino.convert_model(traced, example_input=examples)
    _sign(model, request.signature)
    facts = {}
    if request.target.precision == "int8":
        assert request.calibration is not None  # the plan holds it for int8
        model = quantized(model, request.calibration, reads_numbers(request.signature))
        facts = {"nncf_version": imported("nncf").__version__}
    _name_by_place(model)
    _save(model, request)
    # The model itself is numbered, too, and written under that number whatever its name is.
    graph = request.path.read_text(encoding="utf-8")
    request.path.write_text(re.sub(r'<net name="\w+"', '<net name="network"', graph, count=1), encoding="utf-8")
    return facts


def _sign(model: Any, signature: Signature) -> None:
    """The signature's names, and its shapes. Raises ExportError where OpenVINO has left out what computes nothing."""
    if len(model.inputs) != len(signature.inputs):
        raise ExportError(
            f"OpenVINO has {len(model.inputs)} of its {len(signature.inputs)} inputs: forward() makes no use of the "
            "others; leave them out"
        )
    ports = list(zip((*model.inputs, *model.outputs), signature, strict=True))
    for port, _ in ports:
        port.get_tensor().set_names(set())
    for port, tensor in ports:  # two may be one tensor, which then has both names
        port.get_tensor().add_names({tensor.name})
    batch = [-1] * signature.batched
    model.reshape({port: [*batch, *tensor.shape] for port, tensor in ports[: len(signature.inputs)]})


def _save(model: Any, request: ExportRequest) -> None:
    compress = request.target.precision == "fp16"
    try:
        imported("openvino").save_model(model, str(request.path), compress_to_fp16=compress)
    except RuntimeError as error:
        raise OSError(f"OpenVINO: {reason(error)}; is the disk full?") from None


def _name_by_place(model: Any) -> None:
    """OpenVINO numbers all operations of a process; equal networks are to be equal files."""
    for number, operation in enumerate(model.get_ordered_ops()):
        if operation.get_type_name() != "Parameter":
            operation.friendly_name = f"{operation.get_type_name()}_{number}"


def quantized(model: Any, calibration: Calibration, is_weighted_only: bool = False) -> Any:
    """`is_weighted_only`: what has no weights stays as it is, such as the sum with a mask."""
    nncf = imported("nncf")
    ignored = nncf.IgnoredScope(types=list(WEIGHTLESS), validate=False) if is_weighted_only else None
    with quiet():
        dataset = nncf.Dataset(calibration, lambda batch: {name: tensor.numpy() for name, tensor in batch.items()})
        return nncf.quantize(model, dataset, subset_size=len(calibration), ignored_scope=ignored)


def imported(package: str) -> Any:
    """OpenVINO or NNCF. Both report their use to their makers unless they are told not to; a build tells nobody."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    os.environ.setdefault("NNCF_CI", "1")
    try:
        return importlib.import_module(package)
    except ImportError:
        raise ExportError(f"{package} is not installed; run: pip install 'triton-build-repo[openvino]'") from None


def load(path: Path, target: Target, signature: Signature) -> Predict:
    import torch

    properties = parameters(target) | {"ENABLE_CPU_PINNING": "NO"}
    for of_the_backend in ("HINT_BF16", "ENABLE_BATCH_PADDING"):
        properties.pop(of_the_backend, None)
    compiled = imported("openvino").Core().compile_model(str(path), "CPU", properties)
    request = compiled.create_infer_request()
    mapped = [path.with_suffix(".bin")]

    def predict(tensors: Tensors) -> dict[str, torch.Tensor]:
        given = {tensor.name: tensors[tensor.name].numpy() for tensor in signature.inputs}
        # Not infer(): with one thread it says nothing of sizes that do not fit.
        request.start_async(given, share_inputs=True)
        request.wait()
        while mapped:  # from the first inference on the kernels have the weights in layouts of their own
            page_out_file(mapped.pop())
        return {
            tensor.name: torch.from_numpy(request.get_tensor(tensor.name).data.copy()) for tensor in signature.outputs
        }

    return predict


def parameters(target: Target) -> dict[str, str]:
    """The backend's own, and the precision, which NVIDIA's build of it can only be asked for as bf16."""
    bf16 = {"HINT_BF16": "YES"} if target.precision == "bf16" else {}
    return bf16 | {
        "INFERENCE_PRECISION_HINT": INFERENCE_PRECISIONS[target.precision],
        "INFERENCE_NUM_THREADS": str(target.threads),
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        # NVIDIA's build makes the batch dimension fixed; smaller batches are refused without it.
        "ENABLE_BATCH_PADDING": "YES",
    }
