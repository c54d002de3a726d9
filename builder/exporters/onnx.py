"""ONNX by torch.export: Triton's `onnxruntime` backend. int8 is ONNX Runtime's static quantisation."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.exporters import onnx_file, onnx_int8
from builder.exporters.arguments import named, reads_numbers, require_numpys
from builder.exporters.attention import over_four_axes
from builder.exporters.axes import dynamic, dynamic_shapes, exported, sized_examples
from builder.exporters.half import in_precision
from builder.exporters.memory import weights_released
from builder.exporters.quiet import quiet, tell_nobody
from builder.exporters.scripted import refuse_scripted
from builder.types import ExportRequest, Predict, Target, Tensors

if TYPE_CHECKING:
    import torch
    from pydantic import BaseModel
    from torch import nn

    from builder.triton.signature import Signature

FILENAME = "model.onnx"
BACKEND = "onnxruntime"
PLATFORM = ""
PER_GPU = False
# ONNX Runtime has no bfloat16 convolutions, and its CUDA provider runs Q/DQ graphs unfused, slower than fp32.
PRECISIONS: dict[str, tuple[str, ...]] = {"cpu": ("fp32", "fp16", "int8"), "gpu": ("fp32", "fp16")}
NAMES_TENSORS = True
OPTIONS: type[BaseModel] | None = None
VERSIONED: tuple[str, ...] = ("torch", "onnx", "onnxruntime")

# What the exporter's operators are written in; newer sets would only be converted up from it.
OPSET = 18
CUDA = "CUDAExecutionProvider"


def objection(options: BaseModel | None, max_batch_size: int) -> tuple[str, str] | None:
    return None


def refusal(target: Target) -> str:
    return ""


def export(request: ExportRequest) -> dict[str, str]:
    require_numpys(request.signature)
    tell_nobody()
    with tempfile.TemporaryDirectory(dir=request.path.parent, prefix=".onnx-") as folder:
        graph = Path(folder, FILENAME)
        write_graph(in_precision(request.module, request.target.precision), request, graph)
        if request.target.precision == "int8":
            assert request.calibration is not None  # the plan holds it for int8
            scheme = onnx_int8.OF_TOKENS if reads_numbers(request.signature) else onnx_int8.FOR_CPUS
            graph = onnx_int8.quantize(graph, request.calibration, scheme)
        onnx_file.join(graph, request.path)
    return {"opset": str(OPSET)}


def write_graph(module: nn.Module, request: ExportRequest, path: Path) -> None:
    """Write the ONNX graph of a head, its weights in a second file beside it; it has none afterwards."""
    import torch

    refuse_scripted(module)
    with quiet(), weights_released(module), torch.no_grad(), over_four_axes():
        program = torch.onnx.export(
            **_source(module, request),
            input_names=[tensor.name for tensor in request.signature.inputs],
            output_names=[tensor.name for tensor in request.signature.outputs],
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
        assert program  # None only without dynamo
        program.save(str(path), external_data=True)
        del program


def _source(module: nn.Module, request: ExportRequest) -> dict[str, Any]:
    """Where the batch alone is open, PyTorch's ONNX exporter knows ways of its own; of other axes it checks nothing."""
    if any(dynamic(tensor, request.signature) for tensor in request.signature.inputs):
        return {"model": exported(module, request)}
    return {"model": module, "args": sized_examples(request), "dynamic_shapes": dynamic_shapes(request)}


def load(path: Path, target: Target, signature: Signature) -> Predict:
    tell_nobody()
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = target.threads
    has_cuda = target.device == "gpu" and CUDA in onnxruntime.get_available_providers()
    providers = [CUDA, "CPUExecutionProvider"] if has_cuda else ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(str(path), options, providers=providers)

    names = [tensor.name for tensor in signature.outputs]

    def predict(tensors: Tensors) -> dict[str, torch.Tensor]:
        outputs = session.run(names, {tensor.name: tensors[tensor.name].numpy() for tensor in signature.inputs})
        return {name: torch.as_tensor(output) for name, output in named(signature, outputs).items()}

    return predict


def parameters(target: Target) -> dict[str, str]:
    return {"intra_op_thread_count": str(target.threads), "inter_op_thread_count": "1"}
