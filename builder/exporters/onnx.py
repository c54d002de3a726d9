"""ONNX by torch.export: Triton's `onnxruntime` backend. int8 is ONNX Runtime's static quantisation."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from builder.exporters import onnx_file, onnx_int8
from builder.exporters.half import in_precision
from builder.exporters.memory import weights_released
from builder.exporters.quiet import quiet, tell_nobody
from builder.exporters.scripted import refuse_scripted
from builder.triton.signature import NETWORK_INPUT, NETWORK_OUTPUT
from builder.types import ExportRequest, Predict, Target

if TYPE_CHECKING:
    import torch
    from torch import nn

FILENAME = "model.onnx"
BACKEND = "onnxruntime"
PLATFORM = ""
PER_GPU = False
# ONNX Runtime has no bfloat16 convolutions, and its CUDA provider runs Q/DQ graphs unfused, slower than fp32.
PRECISIONS: dict[str, tuple[str, ...]] = {"cpu": ("fp32", "fp16", "int8"), "gpu": ("fp32", "fp16")}
VERSIONED: tuple[str, ...] = ("torch", "onnx", "onnxruntime")

# What the exporter's operators are written in; newer sets would only be converted up from it.
OPSET = 18
CUDA = "CUDAExecutionProvider"


def refusal(target: Target) -> str:
    return ""


def export(request: ExportRequest) -> dict[str, str]:
    tell_nobody()
    with tempfile.TemporaryDirectory(dir=request.path.parent, prefix=".onnx-") as folder:
        graph = Path(folder, FILENAME)
        write_graph(in_precision(request.module, request.target.precision), request.example, graph)
        if request.target.precision == "int8":
            assert request.calibration is not None  # the plan holds it for int8
            graph = onnx_int8.quantize(graph, request.calibration, onnx_int8.FOR_CPUS)
        onnx_file.join(graph, request.path)
    return {"opset": str(OPSET)}


def write_graph(module: nn.Module, example: torch.Tensor, path: Path) -> None:
    """Write the ONNX graph of a classifier, its weights in a second file beside it; it has none afterwards."""
    import torch

    refuse_scripted(module)
    with quiet(), weights_released(module), torch.no_grad():
        program = torch.onnx.export(
            module,
            (example,),
            input_names=[NETWORK_INPUT],
            output_names=[NETWORK_OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
        assert program  # None only without dynamo
        program.save(str(path), external_data=True)
        del program


def load(path: Path, target: Target) -> Predict:
    tell_nobody()
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = target.threads
    has_cuda = target.device == "gpu" and CUDA in onnxruntime.get_available_providers()
    providers = [CUDA, "CPUExecutionProvider"] if has_cuda else ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(str(path), options, providers=providers)

    def predict(batch: torch.Tensor) -> torch.Tensor:
        (outputs,) = session.run([NETWORK_OUTPUT], {NETWORK_INPUT: batch.numpy()})
        return torch.from_numpy(outputs)

    return predict


def parameters(target: Target) -> dict[str, str]:
    return {"intra_op_thread_count": str(target.threads), "inter_op_thread_count": "1"}
